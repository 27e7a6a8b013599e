package proxies

import (
	"net"

	"berth/proxies/internal/frugal"
)

// Gatherer is an upstream that can be waited for without a buffer, and that
// knows what of it has come already.
type Gatherer interface {
	net.Conn
	// Await waits until Gather would return something, or most likely would. It
	// returns an error only where Gather would return the same.
	Await() error
	// Gather reads all that has come and fits in p, and waits for nothing: it may
	// return 0 and no error.
	Gather(p []byte) (int, error)
}

// reader reads chunks from one end. The chunk that next returned is good
// until release is called, which must be before the next next. A reader keeps
// next to nothing while it waits: most connections wait most of the time.
type reader struct {
	from Gatherer      // nil: conn
	conn frugal.Reader // nil: from
	buf  *frugal.Buffer
}

// newReader returns the most frugal reader for nc.
func newReader(nc net.Conn) *reader {
	if g, ok := nc.(Gatherer); ok {
		return &reader{from: g}
	}
	return &reader{conn: frugal.NewReader(nc)}
}

// waiting reports whether r waits, and its user has done with all that next returned.
// Any goroutine may ask.
func (r *reader) waiting() bool { return r != nil && r.conn != nil && r.conn.Waiting() }

// next waits for something to read. What it returns may come with an error.
func (r *reader) next() ([]byte, error) {
	if r.from != nil {
		return r.gather()
	}
	n, err := r.conn.Read(&r.buf, 0)
	if n == 0 {
		return nil, err
	}
	return r.buf[:n], err
}

func (r *reader) gather() ([]byte, error) {
	for {
		if err := r.from.Await(); err != nil {
			return nil, err
		}
		r.buf = frugal.Take()
		n, err := r.from.Gather(r.buf[:])
		if n > 0 || err != nil {
			return r.buf[:n], err
		}
		r.release() // it was none of the resource's
	}
}

func (r *reader) release() {
	if r.buf != nil {
		frugal.Give(r.buf)
		r.buf = nil
	}
}
