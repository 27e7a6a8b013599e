package wake

import (
	"errors"
	"net"
	"time"
)

// Accept waits for the next connection to l, and does not give up where the system has
// no descriptors or no memory left for one: it tells failed, and tries again after 5 ms,
// then twice as long each time, a second at most. It returns net.ErrClosed once l is closed or
// done is.
func Accept(done <-chan struct{}, l net.Listener, failed func(error)) (net.Conn, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		c, err := l.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return c, err
		}
		select {
		case <-done:
			return nil, net.ErrClosed
		default:
		}
		failed(err)
		timer := time.NewTimer(pause)
		select {
		case <-done: // l is closed, or soon will be
		case <-timer.C:
		}
		timer.Stop()
	}
}
