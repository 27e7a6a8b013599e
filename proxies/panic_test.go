package proxies

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"berth/internal/testwait"
	"berth/proxies/internal/nettest"
)

// deafEar panics at what its client, or its server, says.
type deafEar struct{ client, server bool }

func (e deafEar) Client([]byte) {
	if e.client {
		panic("the client's words")
	}
}

func (e deafEar) Server(said []byte) ([]byte, bool, error) {
	if e.server {
		panic("the server's words")
	}
	return said, true, nil
}
func (deafEar) Ended() (bool, error) { return true, nil }
func (deafEar) AnswerDue() bool      { return false }
func (deafEar) Probe() bool          { return false }
func (deafEar) Stranger() error      { return nil }

// restless panics at what the server says, or as it is asked whether there is rest.
type restless struct{ server bool }

func (restless) Client([]byte) {}

func (r restless) Server([]byte) {
	if r.server {
		panic("the server's words")
	}
}
func (restless) AtRest() bool     { panic("the rest") }
func (restless) Farewell() []byte { return nil }

// endingSoon has connections whose certs end soon followed by rest.
func endingSoon(up *nettest.Server, rest Rest) func(*Config) {
	return func(c *Config) {
		c.Source = endingAt(up, time.Now().Add(recycleLead/2))
		c.Recycle = func(time.Time) Rest { return rest }
		c.Renewed = func(time.Time) bool { return true }
	}
}

// TestPanicEndsOneConnection: wherever a connection meets a bug, it ends with an event
// that says so, and the tunnel serves the others.
func TestPanicEndsOneConnection(t *testing.T) {
	up := nettest.Serve(t, nettest.Echo)
	for name, c := range map[string]struct {
		change func(*Config)
		kind   EventKind
	}{
		"guard":  {func(c *Config) { c.Guard = func(net.Conn) error { panic("the guard") } }, EventRefused},
		"source": {func(c *Config) { c.Source = func(context.Context) (Dial, error) { panic("the source") } }, EventRefused},
		"refuse": {func(c *Config) {
			c.Limits = NewLimits(func() Bounds { return Bounds{Connections: 1, TunnelConnections: 1, Held: 1} })
			c.Refuse = func(net.Conn, error) { panic("the refusal") }
		}, EventRefused},
		"client":        {func(c *Config) { c.Listen = func() Ear { return deafEar{client: true} } }, EventClosed},
		"server":        {func(c *Config) { c.Listen = func() Ear { return deafEar{server: true} } }, EventClosed},
		"rest's server": {endingSoon(up, restless{server: true}), EventClosed},
		"rest":          {endingSoon(up, restless{}), EventClosed},
		"listen":        {func(c *Config) { c.Listen = func() Ear { panic("no ear") } }, EventClosed},
	} {
		t.Run(name, func(t *testing.T) {
			good := Config{Source: newOpenGate(up).source, Hold: nettest.Patience}
			bad := good
			c.change(&bad)
			r := run(t, bad)
			if name == "refuse" {
				nettest.RoundTrip(t, r.connect(t), "the one that may be")
			}
			client := r.connect(t)
			_, _ = client.Write([]byte("hello"))
			said, err := io.ReadAll(client)
			if len(said) > 0 && name != "rest" { // which is asked later
				t.Errorf("the client reads %q, %v", said, err)
			}
			var last Event
			r.await(t, c.kind, 1)
			for _, ev := range r.of(c.kind) {
				last = ev
			}
			if _, ok := errors.AsType[*PanicError](last.Err); !ok {
				t.Errorf("the event has %v", last.Err)
			}
			if name == "refuse" {
				return
			}
			second := r.connect(t) // the tunnel accepts as before
			_, _ = second.Write([]byte("hello"))
			r.await(t, c.kind, 2)
		})
	}
}

// TestPanicLeavesNothingHeld: a Source that panics has its client counted among the
// held no longer.
func TestPanicLeavesNothingHeld(t *testing.T) {
	limits := NewLimits(func() Bounds { return Bounds{Connections: 9, TunnelConnections: 9, Held: 9} })
	release := make(chan struct{})
	r := run(t, Config{Limits: limits, Hold: nettest.Patience, Source: func(context.Context) (Dial, error) {
		<-release
		panic("the source")
	}})
	r.connect(t)
	r.await(t, EventWaiting, 1)
	close(release)
	r.await(t, EventRefused, 1)
	testwait.Eventually(t, "the client is counted no longer", func() bool {
		limits.mu.Lock()
		defer limits.mu.Unlock()
		s := r.Status()
		return limits.held == 0 && limits.open == 0 && s.Waiting == 0 && s.Connections == 0
	})
}
