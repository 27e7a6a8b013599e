package route

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

// closedPort returns an address at which connections are refused.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestDialerTriesAgain: a proxy that restarts while a client is dialled costs
// the client a moment, not its connection.
func TestDialerTriesAgain(t *testing.T) {
	p := newFakeProxy(t, fakeConfig{})
	r := p.route(t)
	r.ProxyAddr = closedPort(t)
	back := make(chan struct{})
	time.AfterFunc(redialAfter/2, func() {
		defer close(back)
		l, err := net.Listen("tcp", r.ProxyAddr)
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close()
		near, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer near.Close()
		far, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Error(err)
			return
		}
		defer far.Close()
		go func() { _, _ = io.Copy(far, near) }()
		_, _ = io.Copy(near, far)
	})
	ctx, cancel := context.WithTimeout(t.Context(), nettest.Patience)
	defer cancel()
	d := Dialer{Route: r, UpgradeNeeded: func() { t.Error("no upgrade is needed") }}
	c, err := d.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	nettest.RoundTrip(t, c, "hello")
	c.Close()
	<-back
}

// TestDialerGivesUp: no further attempt is made where it cannot help, or when
// the time is up.
func TestDialerGivesUp(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		cfg    fakeConfig
		change func(*Route)
		want   error
		asked  int // times that UpgradeNeeded is called
	}{
		{"unreachable", fakeConfig{}, func(r *Route) { r.ProxyAddr = closedPort(t) }, ErrUnreachable, 0},
		{"untrusted", fakeConfig{}, func(r *Route) { r.ServerName = "other.test" }, ErrUntrusted, 0},
		{"upgrade_needed", fakeConfig{noALPN: true}, func(*Route) {}, ErrUpgradeNeeded, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newFakeProxy(t, test.cfg).route(t)
			test.change(&r)
			limit := testwait.Patience
			if errors.Is(test.want, ErrUnreachable) {
				limit = 2 * redialAfter
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			asked := 0
			if _, err := (Dialer{Route: r, UpgradeNeeded: func() { asked++ }}).Dial(ctx); !errors.Is(err, test.want) {
				t.Errorf("Dial() = %v, want %v", err, test.want)
			}
			if ended := ctx.Err() != nil; ended != errors.Is(test.want, ErrUnreachable) {
				t.Errorf("tried until the time was up: %v", ended)
			}
			if asked != test.asked {
				t.Errorf("UpgradeNeeded was called %d times, want %d", asked, test.asked)
			}
		})
	}
}

// TestDialHTTP offers the versions of HTTP in place of the ALPN protocol.
func TestDialHTTP(t *testing.T) {
	p := newFakeProxy(t, fakeConfig{alpn: []string{"http/1.1"}})
	r := p.route(t)
	r.ALPN = ""
	c, err := Dialer{Route: r}.DialHTTP(t.Context(), "h2", "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	nettest.RoundTrip(t, c, "hello")
	if got := p.alpn[0]; got != "http/1.1" {
		t.Errorf("%q was agreed on, want http/1.1", got)
	}
}
