package proxies

import (
	"net"
	"slices"
	"sync"
	"time"
)

// waited is an upstream that waited for its client. The proxy may have hung up on
// it a moment ago, and the client was faster than the news: as long as the
// upstream has not answered, what the client said is kept, and said again on a new
// connection.
type waited struct {
	begun <-chan piece
	again func() (net.Conn, error) // makes a new one, for as long as the client may be held

	writing sync.Mutex // keeps what is sent in order, and may be held for long; taken before mu

	mu     sync.Mutex // guards everything below; never held over the network
	cur    net.Conn
	said   []byte // by the client
	known  bool   // it has answered, or is the second: said is not kept
	halved bool   // the client has ended its half
	closed bool
}

// Write sends what the client says. An upstream that has gone before it answered
// takes everything: the reader finds out.
func (u *waited) Write(p []byte) (int, error) {
	u.writing.Lock()
	defer u.writing.Unlock()
	u.mu.Lock()
	if !u.known {
		u.said = append(u.said, p...)
		if len(u.said) > earlyMax {
			u.said, u.known = nil, true
		}
	}
	cur, known := u.cur, u.known
	u.mu.Unlock()
	n, err := cur.Write(p)
	if err != nil && !known {
		return len(p), nil
	}
	return n, err
}

// CloseWrite ends the sending half.
func (u *waited) CloseWrite() error {
	u.writing.Lock()
	defer u.writing.Unlock()
	u.mu.Lock()
	u.halved = true
	cur := u.cur
	u.mu.Unlock()
	return (&handed{Conn: cur}).CloseWrite()
}

// Close closes the connection, and one that is yet to come. A write that the proxy
// does not take ends with it.
func (u *waited) Close() error {
	u.mu.Lock()
	u.closed = true
	cur := u.cur
	u.mu.Unlock()
	return cur.Close()
}

// answered is called when the upstream has said something.
func (u *waited) answered() {
	u.mu.Lock()
	u.said, u.known = nil, true
	u.mu.Unlock()
}

// second puts a new connection in the place of one that ended without a word, with
// ended. It returns what is there to be read: ended, unless that could be done, or
// why no other one came.
func (u *waited) second(ended error) error {
	u.mu.Lock()
	tried := u.known || u.halved || u.closed
	u.mu.Unlock()
	if tried {
		return ended
	}
	conn, err := u.again()
	if err != nil {
		return err
	}
	if h, ok := conn.(*handed); ok {
		conn = h.Conn
	}
	u.writing.Lock()
	defer u.writing.Unlock()
	u.mu.Lock()
	old, late := u.cur, u.closed || u.known // known: the client said too much meanwhile
	said, halved := u.said, u.halved
	if !late {
		u.cur, u.said, u.known = conn, nil, true
	}
	u.mu.Unlock()
	if late {
		_ = conn.Close() // nothing was sent
		return ended
	}
	_ = old.Close() // it has ended
	if _, err := conn.Write(said); err != nil {
		return err
	}
	if halved {
		_ = (&handed{Conn: conn}).CloseWrite() // fails on a closed connection only
	}
	return nil
}

func (u *waited) current() net.Conn {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.cur
}

// Read is not called: an upstream is read through upstreamReader.
func (u *waited) Read(p []byte) (int, error) { return u.current().Read(p) }

// LocalAddr returns this end's address.
func (u *waited) LocalAddr() net.Addr { return u.current().LocalAddr() }

// RemoteAddr returns the proxy's address.
func (u *waited) RemoteAddr() net.Addr { return u.current().RemoteAddr() }

// SetDeadline sets both deadlines.
func (u *waited) SetDeadline(t time.Time) error { return u.current().SetDeadline(t) }

// SetReadDeadline sets the deadline for reading.
func (u *waited) SetReadDeadline(t time.Time) error { return u.current().SetReadDeadline(t) }

// SetWriteDeadline sets the deadline for writing.
func (u *waited) SetWriteDeadline(t time.Time) error { return u.current().SetWriteDeadline(t) }

// chunks is a reader.
type chunks interface {
	next() ([]byte, error)
	release()
}

// upstreamReader returns what reads the upstream.
func (c *conn) upstreamReader() chunks {
	if u, ok := c.upstream.(*waited); ok {
		return &waitedReader{reader: newReader(u.current()), from: u, due: c.answerDue}
	}
	return newReader(c.upstream)
}

// waitedReader reads an upstream that waited for its client: first what came
// meanwhile.
type waitedReader struct {
	*reader
	from *waited
	due  func() bool // an answer is
	said bool
}

func (r *waitedReader) next() ([]byte, error) {
	for {
		chunk, err := r.piece()
		switch {
		case r.said:
		case len(chunk) > 0:
			r.said = true
			r.from.answered()
		case err != nil && r.due():
			if err = r.from.second(err); err == nil {
				r.reader = newReader(r.from.current())
				continue
			}
		}
		return chunk, err
	}
}

// piece returns what was read while there was no client, and then what comes.
func (r *waitedReader) piece() ([]byte, error) {
	if r.from.begun != nil {
		if p, ok := <-r.from.begun; ok {
			return slices.Clip(p.said), p.err
		}
		r.from.begun = nil
	}
	return r.reader.next()
}
