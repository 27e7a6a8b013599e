package tsh

import (
	"bytes"
	"regexp"
	"time"
)

// identity is what a simple terminal answers when it is asked what it is.
const identity = "\x1b[?61c"

// afterLogin begins what tsh prints to stdout once it has logged in, which the
// console mixes with what it says.
var afterLogin = regexp.MustCompile(`(?m)^> Profile URL:`)

// consoleReader passes a console's text on, without what was typed.
type consoleReader struct {
	*terminal

	to   writer
	text screenText
	done bool
}

// Write takes the next bytes from the console.
func (r *consoleReader) Write(p []byte) (int, error) {
	if r.text.asked == nil {
		r.text.asked = func() { _, _ = r.in.WriteString(identity) }
	}
	text := r.text.text(p)
	r.mu.Lock()
	if len(bytes.TrimSpace(text)) > 0 {
		r.last = time.Now()
	}
	if r.typed {
		end := bytes.IndexByte(text, '\n')
		r.typed = end < 0
		text = text[end+1:]
		if r.typed {
			text = nil
		}
	}
	r.mu.Unlock()
	if at := afterLogin.FindIndex(text); at != nil && !r.done {
		_, _ = r.to.Write(text[:at[0]]) // never fails
		r.done = true
	}
	if !r.done {
		_, _ = r.to.Write(text) // never fails
	}
	return len(p), nil
}
