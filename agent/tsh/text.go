package tsh

import (
	"bytes"
	"regexp"
	"strings"
	"sync"

	"berth/internal/plain"
)

const (
	maxLine  = 4 << 10 // of one line; what is longer is cut
	tailSize = 16      // lines kept of what a child said last
	maxError = 500     // bytes of an error's text
)

// secrets match text that must not leave this package, each with its replacement.
var secrets = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|$)`), "[redacted]"},
	// The path of a loopback login URL logs in whoever opens it.
	{regexp.MustCompile(`(https?://(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?/)[^\s"']+`), "$1[redacted]"},
	{regexp.MustCompile(`(https?://)[^/\s@"']+@`), "$1[redacted]@"},
	{regexp.MustCompile(`(https?://[^\s?"']+\?)[^\s"']+`), "$1[redacted]"},
	{regexp.MustCompile(`\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?`), "[redacted]"},
	{regexp.MustCompile(`(?i)\b((?:bearer|password|passwd|secret|token|cookie|otp)\s*[=:]\s*|bearer\s+)[^\s,;]+`),
		"${1}[redacted]"},
	// Invite and session tokens are 32 hexadecimal digits; request ids have dashes.
	{regexp.MustCompile(`\b[0-9a-fA-F]{32,}\b`), "[redacted]"},
	{regexp.MustCompile(`\b[A-Za-z0-9+_]{48,}={0,2}`), "[redacted]"},
}

// redact replaces what looks like a secret. It errs towards replacing.
func redact(s string) string {
	for _, r := range secrets {
		s = r.pattern.ReplaceAllString(s, r.with)
	}
	return s
}

// oneLine makes text from others fit into one line of a log or an error.
func oneLine(s string) string { return redact(plain.Words(s)) }

// clip shortens a line to n bytes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return plain.Head(s, n) + "…"
}

// lastError returns what a child said last, for an error: from the last line
// that begins with "ERROR:" on, else the last line.
func lastError(lines []string) string {
	from := len(lines) - 1
	for i, line := range lines {
		if isError(line) {
			from = i
		}
	}
	if from < 0 {
		return ""
	}
	text := strings.Join(lines[from:], " ")
	return clip(oneLine(strings.TrimPrefix(text, "ERROR:")), maxError)
}

// isError reports whether a line is where tsh begins to say why it fails.
func isError(line string) bool { return strings.HasPrefix(line, "ERROR:") }

// lineWriter cuts a stream into lines, without terminal codes, and keeps the
// last few. It never fails and never holds more than a line: whatever a child
// prints, it is not made to wait.
type lineWriter struct {
	onLine func(line string) // nil means none

	mu   sync.Mutex
	buf  []byte   // the line so far; guarded by mu
	tail []string // guarded by mu
}

// Write takes the next bytes of the stream.
func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for {
		line, rest, found := bytes.Cut(p, []byte{'\n'})
		w.mu.Lock()
		w.buf = append(w.buf, line[:min(len(line), maxLine-len(w.buf))]...)
		w.mu.Unlock()
		if !found {
			return n, nil
		}
		w.flush()
		p = rest
	}
}

// flush ends the line so far.
func (w *lineWriter) flush() {
	w.mu.Lock()
	line := strings.TrimSpace(plain.Line(string(w.buf)))
	w.buf = w.buf[:0]
	if line != "" {
		if len(w.tail) == tailSize {
			w.tail = append(w.tail[:0], w.tail[1:]...)
		}
		w.tail = append(w.tail, line)
	}
	w.mu.Unlock()
	if line != "" && w.onLine != nil {
		w.onLine(line)
	}
}

// lines returns the last lines, including an unfinished one.
func (w *lineWriter) lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := append([]string(nil), w.tail...)
	if rest := strings.TrimSpace(plain.Line(string(w.buf))); rest != "" {
		lines = append(lines, rest)
	}
	return lines
}
