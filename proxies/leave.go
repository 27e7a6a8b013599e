package proxies

import (
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// errMoved means that another process serves the client from now on.
var errMoved = errors.New("client was handed over")

// Move hands a client's socket to another process, with what the client has sent
// and that process has not read. The caller closes its own descriptor afterwards.
type Move func(client *net.TCPConn, said []byte) error

// Leave gives the tunnel's place to another process, which listens on the same
// socket already. It closes the port here and hands the clients that wait for a
// connection to move. Those that cannot be moved, because they speak TLS with this
// process, go on waiting here until calm is closed. The owner then ends Run's ctx:
// open connections may go on for grace, at rest or not.
func (t *Tunnel) Leave(grace time.Duration, move Move) (calm <-chan struct{}) {
	t.mu.Lock()
	t.leaving, t.cfg.Grace = true, grace
	t.mu.Unlock()
	t.port.Close()
	<-t.accepted
	t.mu.Lock()
	conns := slices.Collect(maps.Keys(t.conns))
	t.mu.Unlock()
	var moving, waiting sync.WaitGroup
	for _, c := range conns {
		moving.Add(1)
		waiting.Go(func() {
			c.leave(move)
			moving.Done()
			<-c.settled
		})
	}
	moving.Wait()
	none := make(chan struct{})
	go func() {
		defer close(none)
		waiting.Wait()
	}()
	return none
}

// hasLeft reports whether another process has the tunnel's place.
func (t *Tunnel) hasLeft() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.leaving
}

// Adopt serves a client that another process has handed over. Run must have been
// called, or be called soon.
func (t *Tunnel) Adopt(client *net.TCPConn, said []byte) {
	<-t.serving
	_ = client.SetKeepAliveConfig(KeepAlive) // fails on a dead connection only
	t.start(t.serveCtx, client, said)
}

// pause is a moment in which a connection's reader leaves the client alone.
type pause struct {
	still chan struct{} // closed by the reader when it does
	on    chan struct{} // closed when it may go on
}

// leave hands the client over if it waits for a connection and can be. It returns
// when that is done, or will not be.
func (c *conn) leave(move Move) {
	select {
	case <-c.settled:
		return
	default:
	}
	p := pause{make(chan struct{}), make(chan struct{})}
	c.pauses <- p
	c.wakeReader()
	select {
	case <-p.still:
	case <-c.settled:
		return
	}
	rest, ok := c.client.Unread()
	if !ok {
		close(p.on)
		return
	}
	c.ahead, c.move = rest, move
	c.cancel(errMoved)
	<-c.settled
	if c.upstream == nil { // else it was connected at the last moment
		<-c.finished
	}
}

// readAhead reads the client until there is an upstream or it is decided that
// there will be none, and returns how the client ended, if it did.
func (c *conn) readAhead() error {
	err := c.readEarly()
	for {
		select {
		case <-c.settled:
			return err
		case p := <-c.pauses:
			close(p.still)
			select {
			case <-c.settled:
				return err
			case <-p.on:
			}
			if err != nil || len(c.early) >= earlyMax {
				continue
			}
			_ = c.client.SetReadDeadline(time.Time{}) // fails on a closed connection only
			select {
			case <-c.settled: // wakeReader may have come before that
				return nil
			default:
				err = c.readEarly()
			}
		}
	}
}

// moveAway hands the client over: readClient has returned.
func (c *conn) moveAway() error {
	return c.move(c.tcp, append(c.early, c.ahead...))
}
