package proxies

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/internal/testneeds"
	"berth/internal/testwait"
	"berth/proxies/internal/nettest"
)

// freePort returns a free port at the moment.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestPortTakenThenFreed(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			port := freePort(t)
			squatter, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
			if err != nil {
				testneeds.Skip(t, host, err.Error())
			}
			defer squatter.Close()
			up := nettest.Serve(t, nettest.Echo)
			tun, ev := newTunnel(Config{Source: source(up), Port: port})

			err = tun.Bind()
			var taken *PortError
			if !errors.As(err, &taken) || !errors.Is(err, ErrPortTaken) || taken.Port != port || taken.Host != host {
				t.Fatalf("Bind() = %v", err)
			}
			if s := tun.Status(); len(s.Addresses) > 0 {
				t.Errorf("half bound: %+v", s)
			}
			other := map[string]string{"127.0.0.1": "::1", "::1": "127.0.0.1"}[host]
			if c, err := net.Dial("tcp", net.JoinHostPort(other, strconv.Itoa(port))); err == nil {
				c.Close()
				t.Errorf("%s is bound though %s is taken", other, host)
			}

			r := runBound(t, tun, ev)
			testwait.Eventually(t, "the owner is named", func() bool {
				var taken *PortError
				return errors.As(r.Status().BindError, &taken) && taken.Owner != nil &&
					taken.Owner.PID == os.Getpid() && taken.Owner.Name != ""
			})
			squatter.Close()
			testwait.Eventually(t, "the port is bound", func() bool { return len(r.Status().Addresses) > 0 })
			if s := r.Status(); s.BindError != nil {
				t.Errorf("BindError = %v, want nil", s.BindError)
			}
			nettest.RoundTrip(t, r.connect(t), "hello")
		})
	}
}

func TestBindIsIdempotent(t *testing.T) {
	r := run(t, Config{Source: source(nettest.Serve(t, nettest.Echo))})
	before := r.addr()
	if err := r.Bind(); err != nil {
		t.Fatal(err)
	}
	if after := r.addr(); after != before {
		t.Errorf("bound to %s, then to %s", before, after)
	}
}

func TestAbsentAddress(t *testing.T) {
	// 2001:db8::/32 is for documentation: no machine has it, as some have no ::1.
	up := nettest.Serve(t, nettest.Echo)
	r := run(t, Config{Source: source(up), Hosts: []string{"127.0.0.1", "2001:db8::1"}})
	s := r.Status()
	if len(s.Addresses) != 1 || !strings.HasPrefix(s.Addresses[0], "127.0.0.1:") {
		t.Errorf("status = %+v", s)
	}
	none, _ := newTunnel(Config{Source: source(up), Hosts: []string{"2001:db8::1"}})
	if err := none.Bind(); err == nil || len(none.Status().Addresses) > 0 {
		t.Errorf("Bind() on no address = %v", err)
	}
}

func TestBindErrorTypes(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want error
	}{
		{"taken", os.NewSyscallError("bind", errInUse), ErrPortTaken},
		{"privileged", &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EACCES)}, ErrPortDenied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := bindError("127.0.0.1", 80, tt.err)
			var pe *PortError
			if !errors.Is(err, tt.want) || !errors.Is(err, tt.err) || !errors.As(err, &pe) || pe.Port != 80 {
				t.Errorf("bindError() = %v", err)
			}
		})
	}
}

func TestPortErrorNamesTheOwner(t *testing.T) {
	err := &PortError{Port: 15432, Host: "127.0.0.1", Reason: ErrPortTaken,
		Owner: &Owner{PID: 812, Name: "postgres"}, Err: syscall.EADDRINUSE}
	want := "bind 127.0.0.1:15432: port is taken by postgres (pid 812)"
	if got := err.Error(); got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}

// flakyListener fails to accept a few times, as when descriptors run out.
type flakyListener struct {
	net.Listener
	failures int
	calls    int
}

func (l *flakyListener) Accept() (net.Conn, error) {
	l.calls++
	if l.calls <= l.failures {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

func TestAcceptSurvivesExhaustion(t *testing.T) {
	up := nettest.Serve(t, nettest.Echo)
	tun, ev := newTunnel(Config{Source: source(up), Hosts: []string{"127.0.0.1"}})
	if err := tun.Bind(); err != nil {
		t.Fatal(err)
	}
	flaky := &flakyListener{Listener: tun.port.listeners[0], failures: 4}
	tun.port.listeners[0] = flaky
	began := time.Now()
	r := runBound(t, tun, ev)
	nettest.RoundTrip(t, r.connect(t), "hello")
	if took := time.Since(began); took < 50*time.Millisecond {
		t.Errorf("four failures took %v: no pause between them", took)
	}
	if s := r.Status(); !errors.Is(s.LastError, syscall.EMFILE) {
		t.Errorf("LastError = %v, want EMFILE", s.LastError)
	}
}

func TestNewPanics(t *testing.T) {
	source := func(context.Context) (Dial, error) { return nil, net.ErrClosed }
	for name, cfg := range map[string]Config{
		"no_source":     {},
		"host_is_named": {Source: source, Hosts: []string{"localhost"}},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("New did not panic")
				}
			}()
			New(cfg)
		})
	}
}

func TestOnChangeIsCalled(t *testing.T) {
	woken := make(chan struct{}, 1)
	up := nettest.Serve(t, nettest.Echo)
	r := run(t, Config{Source: source(up), OnChange: func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	}})
	<-woken // bound
	c := r.connect(t)
	nettest.RoundTrip(t, c, "hello")
	<-woken // a connection
	c.Close()
	r.await(t, EventClosed, 1)
	for r.Status().Connections != 0 {
		<-woken // gone again
	}
}
