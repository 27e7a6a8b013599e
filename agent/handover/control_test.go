package handover

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
)

// poor is a listener on a machine that now and then lacks what a connection takes.
type poor struct {
	net.Listener
	errs chan error
}

func (p poor) Accept() (net.Conn, error) {
	err := <-p.errs
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	return near, far.Close()
}

func (p poor) Close() error {
	p.errs <- net.ErrClosed
	return nil
}

// TestControlOutlivesScarcity: a control socket that cannot take a call takes the next
// one; one that another process has says nothing until it is closed.
func TestControlOutlivesScarcity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := poor{errs: make(chan error, 8)}
		c := NewControl(p)
		for _, err := range []error{syscall.ENOMEM, syscall.EMFILE, syscall.ENOBUFS, nil} {
			p.errs <- err
		}
		conn, err := c.Accept()
		if err != nil {
			t.Fatalf("the call after three that could not be taken: %v", err)
		}
		_ = conn.Close()

		accepted := make(chan error, 1)
		go func() {
			_, err := c.Accept()
			accepted <- err
		}()
		c.Leave()
		synctest.Wait()
		select {
		case err := <-accepted:
			t.Fatalf("a socket that another process has: %v", err)
		default:
		}
		_ = c.Close() // a second time
		if err := <-accepted; !errors.Is(err, net.ErrClosed) {
			t.Errorf("a closed socket: %v", err)
		}
	})
}
