package db

import (
	"encoding/binary"

	"github.com/jackc/pgx/v5/pgproto3"
)

// pgFollower reads the heads of a Postgres connection's messages.
type pgFollower struct {
	started    bool // the startup message has been seen
	unreadable bool
	declines   int  // answers of one byte that are due: the client asked for encryption
	due        int  // answers that end with ReadyForQuery
	open       bool // the client has begun what a Sync must end
	idle       bool // the last ReadyForQuery came outside of a transaction
	from       stream
	to         stream
}

func followPostgres() follower { return &pgFollower{} }

// stream is where in a stream of messages one side is.
type stream struct {
	head []byte // of the next message, as far as it has come
	left int    // bytes of the message that is passing
}

func (s *stream) whole() bool { return len(s.head) == 0 && s.left == 0 }

// read calls message with the type of each message and with its first byte of
// content, once all of that message has passed.
func (s *stream) read(said []byte, message func(kind, first byte)) {
	const head = 5 // type and length; the first byte of content is kept too
	for len(said) > 0 {
		if s.left == 0 {
			n := min(head-len(s.head), len(said))
			s.head, said = append(s.head, said[:n]...), said[n:]
			if len(s.head) < head {
				return
			}
			length := binary.BigEndian.Uint32(s.head[1:])
			if length < 4 || length > 1<<30 {
				message(0, 0)
				return
			}
			s.left = int(length) - 4
		} else {
			if len(s.head) == head {
				s.head = append(s.head, said[0])
			}
			n := min(s.left, len(said))
			s.left, said = s.left-n, said[n:]
		}
		if s.left == 0 {
			message(s.head[0], s.first())
			s.head = s.head[:0]
		}
	}
}

// first is the first byte of the message's content; zero where it has none.
func (s *stream) first() byte {
	if len(s.head) > 5 {
		return s.head[5]
	}
	return 0
}

// Client follows what the client says.
func (r *pgFollower) Client(said []byte) {
	for !r.started && len(said) > 0 && !r.unreadable {
		said = r.startup(said)
	}
	if r.unreadable || len(said) == 0 {
		return
	}
	r.idle = false
	r.from.read(said, func(kind, _ byte) {
		switch kind {
		case 'Q', 'F': // Query, FunctionCall
			r.due++
		case 'S': // Sync
			r.due++
			r.open = false
		case 'P', 'B', 'E', 'D', 'C', 'H': // what a Sync ends
			r.open = true
		case 'd', 'c', 'f', 'p', 'X': // of a copy, a password, the end
		default:
			r.unreadable = true
		}
	})
}

// startup follows what the client says before its messages have types, and
// returns what comes after.
func (r *pgFollower) startup(said []byte) []byte {
	s := &r.from
	if s.left > 0 {
		n := min(s.left, len(said))
		if s.left -= n; s.left == 0 {
			r.started, r.due = true, 1
		}
		return said[n:]
	}
	n := min(8-len(s.head), len(said))
	s.head, said = append(s.head, said[:n]...), said[n:]
	if len(s.head) < 8 {
		return said
	}
	size, code := binary.BigEndian.Uint32(s.head), binary.BigEndian.Uint32(s.head[4:])
	s.head = s.head[:0]
	switch {
	case size == 8 && (code == pgSSL || code == pgGSSENC):
		r.declines++
	case code>>16 == pgMajor && size > 8 && size <= pgStartupMax:
		s.left = int(size) - 8
	default:
		r.unreadable = true
	}
	return said
}

// Server follows what the client got.
func (r *pgFollower) Server(said []byte) {
	for ; r.declines > 0 && len(said) > 0; said = said[1:] {
		r.declines--
		if said[0] != 'N' {
			r.unreadable = true
		}
	}
	if r.unreadable {
		return
	}
	r.to.read(said, func(kind, first byte) {
		switch kind {
		case 0:
			r.unreadable = true
		case 'Z': // ReadyForQuery
			r.due--
			r.idle = first == 'I'
		}
	})
}

// AtRest reports whether nothing is under way, and no transaction is open.
func (r *pgFollower) AtRest() bool {
	return r.started && !r.unreadable && r.due == 0 && !r.open && r.idle && r.from.whole() && r.to.whole()
}

// pgFarewell is what a server says that shuts down.
func pgFarewell(r Refusal) []byte {
	b, err := (&pgproto3.ErrorResponse{
		Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P01", // admin_shutdown
		Message: r.Title, Detail: r.Text, Hint: r.Hint,
	}).Encode(nil)
	if err != nil {
		return nil // it is too long: the connection just ends
	}
	return b
}
