package db

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/internal/plain"
)

const (
	// hearMax is how much a Hearing keeps of either side. What clients say
	// first is a few hundred bytes, and refusals are as short.
	hearMax = 16 << 10
	// promptly is how soon a server hangs up that does not want a client at all.
	// Later it may have ended a client that had nothing to say.
	promptly = 5 * time.Second
	// probeMark is in what a Probe says first, as the name of its program.
	probeMark = "berth-doctor"
)

// Hearing judges how one connection begins: what the client says first, and what
// the server makes of it. It keeps these first bytes only. Its methods
// are those of a proxies.Ear.
type Hearing struct {
	proto Protocol
	began time.Time

	// allowed are the database users whom the session may be, "*" for any; nil:
	// not known.
	allowed []string

	mu             sync.Mutex // guards everything below
	client, server []byte
}

// Listen begins to hear a connection that has its upstream since now. allowed are
// the database users whom the session may be, "*" for any; none: not known.
func (p Protocol) Listen(allowed ...string) *Hearing {
	return &Hearing{proto: p, began: time.Now(), allowed: allowed}
}

// Client hears what the client says.
func (h *Hearing) Client(said []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.client = append(h.client, said[:min(len(said), hearMax-len(h.client))]...)
}

// Server hears what the server says, and returns what is passed on: a refusal of
// a client that names a user whom it may not be is passed on with a hint.
func (h *Hearing) Server(said []byte) (pass []byte, answered bool, refused error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := len(h.server)
	h.server = append(h.server, said[:min(len(said), hearMax-before)]...)
	a := h.answer(false)
	if !a.known() {
		return said, len(h.server) == hearMax, nil
	}
	h.server = nil
	if a.refused == nil {
		return said, true, nil
	}
	if from, to := a.from-before, a.to-before; a.refused.Unlisted && h.proto.retell != nil && from >= 0 && to <= len(said) {
		again := h.proto.retell(said[from:to], h.hint(a.refused.User))
		said = slices.Concat(said[:from], again, said[to:])
	}
	return said, true, a.refused
}

// Ended hears that the server has ended.
func (h *Hearing) Ended() (answered bool, refused error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.answer(true)
	if a.refused == nil {
		return a.known(), nil
	}
	return true, a.refused
}

// answer judges all that the server has said. A stranger has none: what it meets
// with is about its own words. So is what a server says before a client that speaks
// first has spoken judged only once it has. The caller holds h.mu.
func (h *Hearing) answer(ended bool) answer {
	v := h.verdict()
	if v == verdictForeign || v == verdictShort && !h.proto.serverFirst && !ended {
		return answer{}
	}
	if h.proto.answers == nil {
		return served
	}
	a := h.proto.answers(h.server, h.client, ended)
	if a.refused != nil {
		a.refused.Probe = h.probes()
	}
	if a.refused != nil && h.proto.names != nil {
		a.refused.User, a.refused.Database = h.proto.names(h.client)
		a.refused.Unlisted = a.refused.Denied() && a.refused.User != "" && len(h.allowed) > 0 &&
			!slices.Contains(h.allowed, "*") && !slices.Contains(h.allowed, a.refused.User)
	}
	return a
}

// hint says whom the client may be.
func (h *Hearing) hint(user string) string {
	return plain.Words(fmt.Sprintf("%q is not among the database users whom you may be: %s", user, strings.Join(h.allowed, ", ")))
}

// AnswerDue reports whether a server that hung up without a word owed one: to a
// client that began as its protocol does, and to one that had not begun when the
// server hung up at once.
func (h *Hearing) AnswerDue() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch h.verdict() {
	case verdictOurs:
		return true
	case verdictShort:
		return time.Since(h.began) < promptly
	default:
		return false
	}
}

// Probe reports whether the client is a Probe, or one that says nothing where a
// Probe has nothing to say.
func (h *Hearing) Probe() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.probes() || h.proto.login == nil && len(h.client) == 0
}

// probes reports whether what the client has said is a Probe's. The caller holds h.mu.
func (h *Hearing) probes() bool { return bytes.Contains(h.client, []byte(probeMark)) }

// Stranger returns a *StrangerError if the client spoke another protocol.
func (h *Hearing) Stranger() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.verdict() != verdictForeign {
		return nil
	}
	return &StrangerError{Language: h.language()}
}

// verdict judges all that is known of the client. The caller holds h.mu.
func (h *Hearing) verdict() verdict {
	if h.proto.opens == nil {
		return verdictOurs
	}
	o := h.proto.opens(h.client)
	if o == verdictShort && h.language() != "" {
		return verdictForeign
	}
	return o
}

// language names the other protocol that the client speaks, if berth knows it. The
// caller holds h.mu.
func (h *Hearing) language() string {
	if p, known := guess(h.client); known && p.ALPN == h.proto.ALPN {
		return ""
	}
	return language(h.client)
}

// verdict is what a client's first bytes are in a protocol.
type verdict int

const (
	verdictShort   verdict = iota // too few to know, none perhaps
	verdictOurs                   // as the protocol's clients begin
	verdictMute                   // the same, and no server answers it
	verdictForeign                // something else
)

// opensBy returns opens for a protocol whose clients are known by their first
// size bytes.
func opensBy(size int, known func(first []byte) bool) func([]byte) verdict {
	return func(first []byte) verdict {
		switch {
		case len(first) < size:
			return verdictShort
		case known(first):
			return verdictOurs
		default:
			return verdictForeign
		}
	}
}

// StrangerError says that a client spoke something else than its tunnel's
// protocol.
type StrangerError struct {
	Language string // what it spoke; empty: nothing that berth knows
}

// NewStranger returns the *StrangerError of a client that began with first where no
// database's protocol is spoken.
func NewStranger(first []byte) error { return &StrangerError{Language: language(first)} }

// Error says what the client did.
func (e *StrangerError) Error() string {
	if e.Language == "" {
		return "spoke something else"
	}
	return "spoke something else (" + e.Language + ")"
}

// language names what a client speaks; empty: nothing that berth knows.
func language(first []byte) string {
	text := speaksText(first)
	switch {
	case len(first) == 0, text != "":
		return text
	case len(first) >= 3 && first[0] == 0x16 && first[1] == 3: // a handshake of any version
		return "TLS"
	}
	p, _ := guess(first)
	return p.Title
}

// speaksText names a language of printable lines that is none of a database's.
func speaksText(first []byte) string {
	switch {
	case bytes.HasPrefix(first, []byte("SSH-")):
		return "SSH"
	case isHTTPRequest(first), bytes.HasPrefix(first, []byte(http2Preface)):
		return "HTTP"
	default:
		return ""
	}
}
