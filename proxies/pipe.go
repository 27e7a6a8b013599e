package proxies

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// readClient reads the client for as long as it sends, and forwards to the
// upstream once there is one.
func (c *conn) readClient() {
	defer close(c.clientDone)
	defer func() { _ = c.survive(recover()) }() // serve says what became of the connection
	err := c.readAhead()
	if c.upstream == nil {
		return
	}
	_ = c.client.SetReadDeadline(time.Time{}) // fails on a closed connection only
	if len(c.early) > 0 && !c.toUpstream(c.early) {
		return
	}
	r, wary := newReader(c.tcp), !c.client.Plain()
	if wary { // it speaks TLS, or may ask for it yet
		r = newReader(c.client)
	}
	c.reader.Store(r)
	for err == nil {
		if c.unread.Load() {
			return
		}
		var chunk []byte
		chunk, err = r.next()
		c.remember(chunk)
		ok := len(chunk) == 0 || c.toUpstream(chunk)
		r.release()
		if !ok {
			return
		}
		if wary && c.client.Plain() {
			r, wary = newReader(c.tcp), false
			c.reader.Store(r)
		}
		if woken(err) { // wakeReader came after the deadline was reset
			err = c.client.SetReadDeadline(time.Time{})
		}
	}
	c.clientEnded(err)
}

// readEarly reads the client until it is woken, or has sent all that is read ahead,
// and returns how the client ended, if it did.
func (c *conn) readEarly() error {
	buf := make([]byte, 512)
	for {
		n, err := c.client.Read(buf)
		c.early = append(c.early, buf[:n]...)
		switch {
		case woken(err):
			return nil
		case err == nil && len(c.early) < earlyMax:
		case err == nil:
			return nil
		case errors.Is(err, io.EOF) && len(c.early) > 0 && !c.endedWaiting():
			// A client may send its request and close its half at once. One
			// that does so while it is held is more likely gone.
			return err
		default:
			c.cancel(clientGone(err))
			return err
		}
	}
}

// clientGone is ErrClientGone with what Front says of it, which is more than that
// the socket has ended.
func clientGone(err error) error {
	if _, socket := errors.AsType[*net.OpError](err); socket || errors.Is(err, io.EOF) {
		return ErrClientGone
	}
	return fmt.Errorf("%w: %w", ErrClientGone, err)
}

// remember keeps what the client sends until it has an answer.
func (c *conn) remember(chunk []byte) {
	switch {
	case c.talked:
	case c.in.Load() > 0 || len(c.early)+len(chunk) > earlyMax:
		c.early, c.talked = nil, true
	default:
		c.early = append(c.early, chunk...)
	}
}

// clientEnded passes on how the client ended to the upstream.
func (c *conn) clientEnded(err error) {
	if !errors.Is(err, io.EOF) {
		c.clientEOF.Store(true)
		c.shut(&ConnError{SideClient, "read", err})
		return
	}
	switch {
	case c.endedWaiting(): // its upstream had ended, and it is held for another one
		c.shut(ErrClientGone)
		return
	case !closeWrite(c.upstream) && !c.unread.Load(): // else serve has closed it, and answers the client
		c.shut(nil)
		return
	}
	awaitHalf(c, c.copyDone, &c.in)
}

// toUpstream forwards one chunk, and reports whether to go on. An upstream that
// accepts nothing further may still be sending: the reason, perhaps.
func (c *conn) toUpstream(chunk []byte) bool {
	// Counted ahead: the upstream may read it and hang up before Write returns
	// here, and what was sent decides whether an answer was due.
	c.out.Add(int64(len(chunk)))
	if c.overhears() {
		c.ear.Client(chunk)
	}
	c.asked.Store(c.t.now())
	if c.rest != nil && !c.restClient(chunk) {
		return false
	}
	n, err := c.upstream.Write(chunk)
	c.out.Add(int64(n - len(chunk)))
	c.t.bytesOut.Add(int64(n))
	if err == nil {
		return true
	}
	select {
	case <-c.copyDone: // it has hung up, and the client did not know
	default:
		why := error(&ConnError{SideUpstream, "write", err})
		if c.in.Load() == 0 && c.answerDue() {
			why = closedEarly(why)
		}
		c.fail(why)
	}
	awaitHalf(c, c.copyDone, &c.in)
	return false
}

// readUpstream copies from the upstream to the client until the upstream ends.
func (c *conn) readUpstream() {
	r := c.upstreamReader()
	for silent := true; ; {
		chunk, err := r.next()
		if len(chunk) > 0 {
			silent = false
			if c.overhears() {
				var wordless error
				if chunk, wordless = c.hearServer(chunk); wordless != nil {
					r.release()
					c.upstreamEnded(wordless, true)
					return
				}
			}
			if !c.toClient(chunk) {
				r.release()
				return
			}
		}
		r.release()
		if err != nil {
			c.upstreamEnded(err, silent)
			return
		}
	}
}

func (c *conn) toClient(chunk []byte) bool {
	// Before the client can ask again.
	if c.answered.Swap(c.t.now()) < c.asked.Load() {
		c.t.spoke.Wake()
	}
	write := c.client.Write
	if c.rest != nil {
		write = c.tell
	}
	n, err := write(chunk)
	c.in.Add(int64(n))
	c.t.bytesIn.Add(int64(n))
	if err != nil {
		c.shut(&ConnError{SideClient, "write", err})
	}
	return err == nil
}

// upstreamEnded ends the client's half as the upstream's ended: a clean end as
// a clean end, anything else as a reset, since in some protocols a clean end
// means that everything was sent. A Wordless err is a clean end, too, and what it
// answers was kept from the client, which gets a refusal in its place.
func (c *conn) upstreamEnded(err error, silent bool) {
	var why, early error
	_, wordless := errors.AsType[Wordless](err)
	if wordless {
		early = err
	} else if !errors.Is(err, io.EOF) {
		why = &ConnError{SideUpstream, "read", err}
		early = why
	}
	if !silent && c.cutByCert() {
		c.fail(ErrCertEnded)
	}
	c.spokeOut = !silent
	if wordless || silent && !c.clientEOF.Load() && c.answerDue() {
		c.fail(closedEarly(early))
		if c.unanswered() {
			return
		}
	}
	switch {
	case why != nil:
		_ = c.tcp.SetLinger(0) // fails on a closed connection only
		c.shut(why)
	case c.client.CloseWrite() != nil:
		c.shut(nil)
	}
}

// closedEarly is ErrClosedEarly with what showed it, which may be nothing.
func closedEarly(why error) error {
	if why == nil {
		return ErrClosedEarly
	}
	return fmt.Errorf("%w: %w", ErrClosedEarly, why)
}

// endedWaiting notes that the client has ended its half, and reports whether it
// is being held. markWaiting checks in the opposite order, so that one of the
// two notices.
func (c *conn) endedWaiting() bool {
	c.clientEOF.Store(true)
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	_, ok := c.t.waiting[c]
	return ok
}

// awaitHalf waits for the other half of c to end, as long as bytes still
// move in it.
func awaitHalf(c *conn, other <-chan struct{}, moved *atomic.Int64) {
	tick := time.NewTicker(c.t.halfOpenIdle)
	defer tick.Stop()
	for last := moved.Load(); ; {
		select {
		case <-other:
			return
		case <-tick.C:
			now := moved.Load()
			if now == last {
				c.shut(nil)
				return
			}
			last = now
		}
	}
}

// closeWrite ends the sending half of nc, and reports whether it could.
func closeWrite(nc net.Conn) bool {
	half, ok := nc.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}
