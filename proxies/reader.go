package proxies

import (
	"net"
	"sync"
)

const (
	// busySize is the buffer of a connection that has data to move.
	busySize = 64 << 10
	// idleSize is the buffer of a connection that waits for data and whose
	// kind cannot wait without one. Most answers of a database fit in it.
	idleSize = 2 << 10
)

// reader reads chunks from one end. The chunk that next returned is good
// until release is called, which must be before the next next. A reader keeps
// next to nothing while it waits: most connections wait most of the time.
type reader interface {
	next() ([]byte, error)
	release()
}

// newReader returns the most frugal reader for nc.
func newReader(nc net.Conn) reader {
	if tcp, ok := nc.(*net.TCPConn); ok {
		if r := newTCPReader(tcp); r != nil {
			return r
		}
	}
	return &streamReader{conn: nc}
}

type buffer [busySize]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// streamReader waits with a small buffer, and takes a large one for as long
// as reads fill it.
type streamReader struct {
	conn net.Conn
	busy *buffer // nil when idle
	full bool    // the last read filled the small buffer
	idle [idleSize]byte
}

func (r *streamReader) next() ([]byte, error) {
	buf := r.idle[:]
	if r.full {
		r.busy = buffers.Get().(*buffer)
		buf = r.busy[:]
	}
	n, err := r.conn.Read(buf)
	r.full = n >= idleSize
	return buf[:n], err
}

func (r *streamReader) release() {
	if r.busy != nil {
		buffers.Put(r.busy)
		r.busy = nil
	}
}
