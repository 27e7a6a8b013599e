package db

import (
	"cmp"
	"strings"
	"unicode/utf8"

	"berth/internal/plain"
)

// RefusalKind is why a client is refused. It decides which of a protocol's
// own error codes the client gets.
type RefusalKind int

// The kinds of refusal.
const (
	RefusalOther       RefusalKind = iota // none of the below
	RefusalLogin                          // there is no valid session
	RefusalHoldEnded                      // the client was held, and no login came
	RefusalDenied                         // the cluster refused
	RefusalMFA                            // the cluster wants a second factor that cannot be had now
	RefusalUnreachable                    // the proxy does not answer
	RefusalUnknown                        // the cluster has no such database
)

// Refusal is the text that a refused client gets. It may come from anywhere:
// Refuse makes it harmless and short enough for the protocol.
type Refusal struct {
	// Title says what is wrong in a few words. Some clients print nothing
	// else, so it is best when it names the tunnel.
	Title string
	// Text says it in a sentence: cause, tunnel, since when.
	Text string
	// Hint says what to do about it, most often a command to type.
	Hint string
	// Kind chooses the error codes.
	Kind RefusalKind
}

// The longest texts sent, in bytes. A few lines are as much as people read, and
// every protocol but MySQL's has room for this much.
const (
	titleMax = 200
	textMax  = 1000
	hintMax  = 500
)

// clean makes the texts harmless for every protocol and terminal: one line of
// valid, printable UTF-8 each, of bounded length. There is always a title.
func (r Refusal) clean() Refusal {
	r.Title = strings.TrimRight(plain.Words(r.Title), ".: ")
	r.Text, r.Hint = cut(plain.Words(r.Text), textMax), cut(plain.Words(r.Hint), hintMax)
	r.Title = cut(cmp.Or(r.Title, "Connection refused"), titleMax)
	return r
}

// cut shortens s to at most limit bytes, saying so.
func cut(s string, limit int) string {
	const more = "…"
	if len(s) <= limit {
		return s
	}
	if head := plain.Head(s, max(limit-len(more), 0)); head != "" {
		return head + more
	}
	return ""
}

// line returns all of r as one line of at most limit bytes, for protocols with
// one place for text. If it is too long the text suffers, then the hint.
func (r Refusal) line(limit int) string {
	if r.Text != "" && !strings.ContainsRune(".!?…", lastRune(r.Text)) {
		r.Text += "."
	}
	whole := r.join()
	if over := len(whole) - limit; over > 0 {
		r.Text = cut(r.Text, max(len(r.Text)-over, 0))
		whole = r.join()
	}
	return cut(whole, limit)
}

func (r Refusal) join() string {
	s := r.Title
	if r.Text != "" {
		s += ": " + r.Text
	}
	if r.Text == "" && r.Hint != "" {
		s += "."
	}
	if r.Hint != "" {
		s += " Hint: " + r.Hint
	}
	return s
}

func lastRune(s string) rune {
	r, _ := utf8.DecodeLastRuneInString(s)
	return r
}

// wholeLine is all of r in one line, for protocols without a limit.
func (r Refusal) wholeLine() string { return r.line(titleMax + textMax + hintMax) }
