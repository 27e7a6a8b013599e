package proxies

import (
	"net"
	"sync"
)

const (
	// busySize is the buffer of a socket that has data to move.
	busySize = 64 << 10
	// recordSize is the buffer of a stream that does: TLS never gives more at
	// once. It may be kept until the next data comes, so it should be no larger.
	recordSize = 16 << 10
	// idleSize is the buffer of a stream that waits: it cannot wait without
	// one. Most answers of a database fit in it.
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

type (
	buffer [busySize]byte
	record [recordSize]byte
)

var (
	buffers = sync.Pool{New: func() any { return new(buffer) }}
	records = sync.Pool{New: func() any { return new(record) }}
)

// streamReader waits with a small buffer, and takes a large one for as long
// as reads fill it.
type streamReader struct {
	conn net.Conn
	busy *record // nil when idle
	full bool    // the last read filled the small buffer
	idle [idleSize]byte
}

func (r *streamReader) next() ([]byte, error) {
	buf := r.idle[:]
	if r.full {
		r.busy = records.Get().(*record)
		buf = r.busy[:]
	}
	n, err := r.conn.Read(buf)
	r.full = n >= idleSize
	return buf[:n], err
}

func (r *streamReader) release() {
	if r.busy != nil {
		records.Put(r.busy)
		r.busy = nil
	}
}
