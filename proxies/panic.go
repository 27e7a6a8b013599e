package proxies

import (
	"fmt"
	"runtime/debug"
)

// PanicError says that a bug of this program ended a connection, and that one alone.
type PanicError struct{ Value any }

// Error names the panic.
func (e *PanicError) Error() string { return fmt.Sprintf("a bug ended the connection: %v", e.Value) }

// survive is deferred by the goroutines of a connection: what they parse is of
// others, and a slip there must not end the other connections. It returns the error
// that has ended this one; nil: none did.
func (c *conn) survive(r any) error {
	if r == nil {
		return nil
	}
	err := &PanicError{r}
	c.t.log.Error("[unexpected] panic in a connection", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
	c.shut(err)
	return err
}

// surviveServe is survive for the goroutine that serves, on which others wait.
func (c *conn) surviveServe(r any) {
	err := c.survive(r)
	if err == nil {
		return
	}
	connected := c.upstream != nil
	for _, ch := range []chan struct{}{c.settled, c.copyDone} {
		select {
		case <-ch:
		default:
			close(ch) // this goroutine alone closes it
		}
	}
	if c.reading {
		<-c.clientDone
	}
	c.t.noteError(err)
	if connected {
		c.event(EventClosed, err, c.waited)
	} else {
		c.event(EventRefused, err, c.waited)
	}
}
