// Package frugal reads sockets without keeping buffers for them: most
// connections wait most of the time, and one that waits needs no memory for what
// has not come yet.
package frugal

import (
	"net"
	"sync"
	"sync/atomic"
)

// Size is the size of a Buffer: a socket with much to move gives as much at once.
const Size = 64 << 10

// Buffer is what a connection has while data moves.
type Buffer [Size]byte

var buffers = sync.Pool{New: func() any { return new(Buffer) }}

// Take returns a Buffer with any content.
func Take() *Buffer { return buffers.Get().(*Buffer) }

// Give takes back a Buffer that Take returned.
func Give(b *Buffer) { buffers.Put(b) }

// idleSize is what a stream waits with that cannot be waited for without a
// buffer. Most answers of a database fit in it.
const idleSize = 2 << 10

// A Reader reads a connection into Buffers, which it takes only once there is
// something to read.
type Reader interface {
	// Read waits for data and appends it to the first n bytes of *b, which it
	// takes where it is nil. At the end it returns io.EOF.
	Read(b **Buffer, n int) (int, error)
	// Waiting reports whether Read waits for data, as far as the Reader can know. Any
	// goroutine may ask.
	Waiting() bool
}

// NewReader returns the most frugal Reader for nc.
func NewReader(nc net.Conn) Reader {
	if tcp, ok := nc.(*net.TCPConn); ok {
		if r := newSocket(tcp); r != nil {
			return r
		}
	}
	return &stream{conn: nc}
}

// stream waits with a small buffer of its own, and takes a large one for as
// long as reads fill that.
type stream struct {
	conn    net.Conn
	waiting atomic.Bool
	full    bool // the last read filled the small buffer
	idle    [idleSize]byte
}

// Waiting may be true for a moment before conn returns what it has already.
func (s *stream) Waiting() bool { return s.waiting.Load() }

func (s *stream) Read(b **Buffer, n int) (int, error) {
	s.waiting.Store(true)
	defer s.waiting.Store(false)
	if *b != nil || s.full {
		if *b == nil {
			*b = Take()
		}
		got, err := s.conn.Read((*b)[n:])
		s.full = got >= idleSize
		return got, err
	}
	got, err := s.conn.Read(s.idle[:])
	s.full = got == idleSize
	if got > 0 {
		*b = Take()
		copy((*b)[n:], s.idle[:got])
	}
	return got, err
}
