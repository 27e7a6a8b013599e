package db

import (
	"bytes"
	"strconv"
	"strings"
)

// redisFollower reads the heads of a connection's values.
type redisFollower struct {
	unreadable bool
	due        int  // replies
	multi      bool // a transaction was begun
	watch      bool // and one is to come
	from, to   redisStream
}

func followRedis() follower { return &redisFollower{} }

// redisStream is where in a stream of values one side is. Source: Redis
// serialization protocol specification, versions 2 and 3.
type redisStream struct {
	line  []byte   // the beginning of a line that is passing
	skip  int      // bytes of a string to come
	open  []int    // elements to come of each array that has begun, the outermost first
	kind  byte     // of the value that is passing
	words []string // its first strings, in upper case
}

const (
	redisLineKept = 64 // of a line: numbers are shorter
	redisDeepest  = 32 // how deep values may be within others
	redisWords    = 2  // how many are kept
)

func (s *redisStream) whole() bool { return len(s.line) == 0 && s.skip == 0 && len(s.open) == 0 }

// read calls value for each value that has passed, and reports whether all that
// was said is readable.
func (s *redisStream) read(said []byte, value func(kind byte, words []string)) bool {
	for len(said) > 0 {
		if s.skip > 0 {
			n := min(s.skip, len(said))
			if len(s.words) > 0 && len(s.words) <= redisWords {
				last := &s.words[len(s.words)-1]
				*last += strings.ToUpper(string(said[:min(n, max(redisLineKept-len(*last), 0))]))
			}
			s.skip, said = s.skip-n, said[n:]
			if s.skip == 0 {
				s.done(value)
			}
			continue
		}
		part, rest, ended := bytes.Cut(said, []byte("\n"))
		s.line = append(s.line, part[:min(len(part), max(redisLineKept-len(s.line), 0))]...)
		if !ended {
			return len(s.line) == 0 || s.known()
		}
		if len(s.line) == 0 || !s.known() || !s.begin(value) {
			return false
		}
		s.line, said = s.line[:0], rest
	}
	return true
}

// known reports whether the line begins a value that berth can follow.
func (s *redisStream) known() bool { return strings.IndexByte("+-:_,#($=!*~>%", s.line[0]) >= 0 }

// begin begins the value whose first line has passed.
func (s *redisStream) begin(value func(kind byte, words []string)) bool {
	kind := s.line[0]
	if len(s.open) == 0 {
		s.kind, s.words = kind, nil
	}
	if strings.IndexByte("+-:_,#(", kind) >= 0 {
		s.done(value)
		return true
	}
	n, err := strconv.Atoi(string(bytes.TrimSuffix(s.line[1:], []byte("\r"))))
	switch {
	case err != nil || n < -1:
		return false
	case n == -1: // null
		s.done(value)
		return true
	case strings.IndexByte("$=!", kind) >= 0:
		s.skip = n + len("\r\n")
		if len(s.words) <= redisWords { // the next one is for those that are not kept
			s.words = append(s.words, "")
		}
		return true
	case kind == '%':
		n *= 2
	}
	if n == 0 {
		s.done(value)
		return true
	}
	s.open = append(s.open, n)
	return len(s.open) <= redisDeepest
}

// done ends an element, and all that ends with it.
func (s *redisStream) done(value func(kind byte, words []string)) {
	for i := len(s.open) - 1; i >= 0; i-- {
		if s.open[i]--; s.open[i] > 0 {
			return
		}
		s.open = s.open[:i]
	}
	value(s.kind, s.words)
}

// Client follows what the client says.
func (r *redisFollower) Client(said []byte) {
	if r.unreadable {
		return
	}
	readable := r.from.read(said, func(kind byte, words []string) {
		if kind != '*' || len(words) == 0 {
			r.unreadable = true
			return
		}
		r.due++
		r.command(words)
	})
	r.unreadable = r.unreadable || !readable
}

// command notes what a command begins or ends.
func (r *redisFollower) command(words []string) {
	name := func(i int) string {
		if i < len(words) {
			return strings.TrimSuffix(words[i], "\r\n")
		}
		return ""
	}
	switch name(0) {
	case "MULTI":
		r.multi = true
	case "WATCH":
		r.watch = true
	case "UNWATCH":
		r.watch = false
	case "EXEC", "DISCARD", "RESET":
		r.multi, r.watch = false, false
	case "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR", "SYNC", "PSYNC", "QUIT": // not one reply for each command
		r.unreadable = true
	case "CLIENT":
		r.unreadable = r.unreadable || name(1) == "REPLY"
	}
}

// Server follows what the client got.
func (r *redisFollower) Server(said []byte) {
	if r.unreadable {
		return
	}
	readable := r.to.read(said, func(kind byte, _ []string) {
		if kind != '>' { // which answers nothing
			r.due--
		}
	})
	r.unreadable = r.unreadable || !readable || r.due < 0
}

// AtRest reports whether nothing is under way, and no transaction is open.
func (r *redisFollower) AtRest() bool {
	return !r.unreadable && r.due == 0 && !r.multi && !r.watch && r.from.whole() && r.to.whole()
}
