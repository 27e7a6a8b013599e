//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/testneeds"
	"berth/internal/testwait"
	"berth/internal/wake"
)

// outages are the ways in which a proxy can be away. Each returns what ends it.
var outages = []struct {
	name  string
	begin func(t *testing.T, e *env) (end func())
	why   string // as status says it
}{
	{"refused", func(t *testing.T, e *env) func() {
		e.Sim.Faults().Stop()
		return func() { must(t, e.Sim.Faults().Start()) }
	}, "connection refused"},
	{"stalled", func(t *testing.T, e *env) func() { // as by SIGSTOP
		must(t, e.Sim.Faults().Proxy(simcluster.Stalled))
		return func() { must(t, e.Sim.Faults().Clear()) }
	}, "no answer in time"},
	{"black_hole", func(t *testing.T, e *env) func() {
		e.Sim.Faults().Stop()
		end := blackHole(t, e.Sim.Port())
		return func() {
			end()
			must(t, e.Sim.Faults().Start())
		}
	}, "no answer in time"},
	{"no_name", loseName, "its name does not resolve"},
}

// blackHole has a port drop what comes: its queue of connections is full, and
// nothing takes from it.
func blackHole(t *testing.T, port int) (end func()) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(t, err)
	must(t, syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
	must(t, syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}))
	must(t, syscall.Listen(fd, 0))
	dialer := net.Dialer{Timeout: 200 * time.Millisecond}
	var fill []net.Conn
	for range 8 {
		conn, err := dialer.DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			break
		}
		fill = append(fill, conn)
	}
	if len(fill) == 8 {
		t.Fatal("the system takes every connection of a queue that is full")
	}
	return func() {
		for _, conn := range fill {
			_ = conn.Close() // no one was at the other end
		}
		must(t, syscall.Close(fd))
	}
}

// TestServedTheMomentTheProxyIsBack: clients that come meanwhile are held, there
// is one problem that knows since when, in plain words; and certs, lists and
// queries are there within a second.
func TestServedTheMomentTheProxyIsBack(t *testing.T) {
	testneeds.Time(t, "each kind of outage takes seconds")
	lengths := []time.Duration{time.Second, 7 * time.Second}
	if long, err := time.ParseDuration(os.Getenv("BERTH_TEST_OUTAGE")); err == nil {
		lengths = append(lengths, long)
	}
	for _, outage := range outages {
		for _, length := range lengths {
			t.Run(fmt.Sprintf("%s_%s", outage.name, length), func(t *testing.T) {
				t.Parallel()
				cfg := simcluster.Config{Databases: []simcluster.Database{
					{Name: "pg", Protocol: "postgres"}, {Name: "other", Protocol: "postgres"},
				}}
				if outage.name == "no_name" {
					cfg.ProxyHost = length.String() + namedZone
				}
				e := newEnv(t, cfg)
				e.Login()
				item, port := e.pgTunnel("pg", fmt.Sprintf("hold: %ds", int(length.Seconds())+30))
				e.config(item)
				e.start()
				e.AwaitState("pg", state.TunnelReady)
				must(t, e.mustPG(port).Close(t.Context()))
				began := time.Now()
				end := outage.begin(t, e)
				held := make(chan error, 1)
				go func() {
					conn, err := e.pg(t.Context(), port)
					if err == nil {
						err = conn.Close(t.Context())
					}
					held <- err
				}()
				wake.Sleep(t.Context(), time.Until(began.Add(length/2)))
				meanwhile(t, e)
				if length > 6*time.Second { // a dial that gets no answer has five
					s := e.Await("the problem", func(s state.Snapshot) bool { return len(s.Problems) > 0 })
					checkOneProblem(t, s, began, outage.why)
				}
				wake.Sleep(t.Context(), time.Until(began.Add(length)))
				end()
				checkBack(t, e, port, time.Now(), held)
				s := e.Await("no problem", func(s state.Snapshot) bool { return len(s.Problems) == 0 })
				if s.Tunnels[0].Problem != nil {
					t.Errorf("the tunnel still has %+v", s.Tunnels[0].Problem)
				}
			})
		}
	}
}

// meanwhile is a person who asks during the outage: they are not kept long, and
// the words are berth's own.
func meanwhile(t *testing.T, e *env) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, _, err := e.Client().Resources(ctx, client.ResourceQuery{})
	if told, ok := errors.AsType[*client.Error](err); ok {
		checkWords(t, told.Message+told.Hint)
	}
}

// checkWords fails for what a library says.
func checkWords(t *testing.T, text string) {
	t.Helper()
	for _, word := range []string{"rpc error", "desc =", "dial tcp", "breaker", "context deadline", "transport:", "grpc", "EOF", "i/o timeout"} {
		if strings.Contains(text, word) {
			t.Errorf("a library speaks (%q): %s", word, text)
		}
	}
}

// checkOneProblem checks the problem that an outage is.
func checkOneProblem(t *testing.T, s state.Snapshot, began time.Time, why string) {
	t.Helper()
	if len(s.Problems) != 1 || s.Problems[0].Code != state.CodeProxyUnreachable || !strings.Contains(s.Problems[0].Text, why) {
		t.Fatalf("problems %+v, want one: the proxy's, %q", s.Problems, why)
	}
	checkWords(t, s.Problems[0].Text)
	off := s.Problems[0].Since.Sub(began)
	if off < -time.Second {
		t.Errorf("the problem is said to be there since %v, %v off", s.Problems[0].Since, off)
	}
	testwait.Soon(t, "the beginning of the problem", off, 6*time.Second)
}

// checkBack measures how long it takes until everything is served.
func checkBack(t *testing.T, e *env, port int, back time.Time, held <-chan error) {
	t.Helper()
	first := func(what string, try func(context.Context) error) {
		var err error
		testwait.Until(func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			err = try(ctx)
			return err == nil
		})
		took := time.Since(back)
		if err != nil {
			t.Errorf("%s: %v after the proxy was back: %v", what, took, err)
		}
		testwait.Soon(t, what+" after the proxy was back", took, time.Second)
	}
	c := e.Client()
	var all sync.WaitGroup
	all.Go(func() {
		first("a new client's query", func(ctx context.Context) error {
			conn, err := e.pg(ctx, port)
			if err != nil {
				return err
			}
			_, err = servedBy(ctx, conn)
			return errors.Join(err, conn.Close(ctx))
		})
	})
	all.Go(func() {
		first("a list", func(ctx context.Context) error {
			_, _, err := c.Resources(ctx, client.ResourceQuery{})
			return err
		})
	})
	all.Go(func() {
		first("tunnel add", func(ctx context.Context) error {
			_, err := c.AddTunnel(ctx, state.TunnelSpec{
				Name: "fresh", Kind: state.KindDB, Cluster: e.Sim.Name(), Resource: "other", DBUser: "alice",
			})
			return err
		})
	})
	all.Go(func() {
		first("requests", func(ctx context.Context) error {
			_, err := c.RequestAbilities(ctx, "", nil)
			return err
		})
	})
	all.Go(func() {
		first("a new cert", func(ctx context.Context) error {
			if err := c.RestartTunnel(ctx, "pg"); err != nil {
				return err
			}
			s := e.AwaitState("pg", state.TunnelReady)
			if s.CertValidUntil == nil {
				return errors.New("no cert")
			}
			return nil
		})
	})
	all.Wait()
	select {
	case err := <-held:
		// A restart of the tunnel, as above, may have closed it.
		if err != nil && !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
			t.Errorf("the client that came meanwhile: %v", err)
		}
	case <-time.After(testwait.Patience):
		t.Error("the client that came meanwhile is still held")
	}
}
