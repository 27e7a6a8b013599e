package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gravitational/trace"

	"berth/agent/config"
	"berth/agent/ipc/client"
	"berth/agent/memory"
	"berth/agent/state"
	"berth/internal/paths"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testneeds"
	"berth/internal/wake"
)

var errDenied = trace.AccessDenied("access denied to perform action")

// TestOneStalledTunnel stalls one database among thirty; the clients of the
// other twenty-nine see no error.
func TestOneStalledTunnel(t *testing.T) {
	t.Parallel()
	const tunnels = 30
	cfg := simcluster.Config{}
	for i := range tunnels {
		cfg.Databases = append(cfg.Databases, simcluster.Database{Name: fmt.Sprintf("pg%d", i), Protocol: "postgres"})
	}
	e := newEnv(t, cfg)
	e.Login()
	var items []string
	var ports []int
	for i := range tunnels {
		ports = append(ports, simworld.FreePort(t))
		items = append(items, fmt.Sprintf("name: t%d, kind: db, cluster: %s, resource: pg%d, db_user: alice, port: %d",
			i, e.Sim.Name(), i, ports[i]))
	}
	e.config(items...)
	e.start()
	e.Await("all tunnels to be ready", func(s state.Snapshot) bool {
		for _, tun := range s.Tunnels {
			if tun.State != state.TunnelReady {
				return false
			}
		}
		return len(s.Tunnels) == tunnels
	})
	e.Sim.Faults().Database("pg0", simcluster.Stalled)
	stalled, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", ports[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer stalled.Close()
	var wg sync.WaitGroup
	var failed atomic.Int64
	for _, port := range ports[1:] {
		wg.Go(func() {
			for range 5 {
				conn, err := e.pg(t.Context(), port)
				if err == nil {
					_, err = servedBy(t.Context(), conn)
					err = errors.Join(err, conn.Close(t.Context()))
				}
				if err != nil {
					failed.Add(1)
					t.Logf("port %d: %v", port, err)
				}
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); n != 0 {
		t.Errorf("%d queries through healthy tunnels failed, want 0", n)
	}
}

func TestManyClientsAtOnce(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	item, port := e.pgTunnel("pg")
	e.config(item)
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	const clients = 500
	var wg sync.WaitGroup
	var failed atomic.Int64
	for range clients {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*wait)
			defer cancel()
			conn, err := e.pg(ctx, port)
			if err == nil {
				_, err = servedBy(ctx, conn)
				err = errors.Join(err, conn.Close(ctx))
			}
			if err != nil {
				failed.Add(1)
				t.Log(err)
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); n != 0 {
		t.Errorf("%d of %d clients failed", n, clients)
	}
	if tun := e.Snapshot().Tunnels[0]; tun.TotalConnections != clients {
		t.Errorf("total_connections = %d, want %d", tun.TotalConnections, clients)
	}
}

// TestUnknownServiceHangsUp covers a database that vanishes after its cert was
// minted: Teleport then hangs up without a word, and berth says so.
func TestUnknownServiceHangsUp(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	item, port := e.pgTunnel("pg")
	e.config(item)
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	e.Sim.RemoveDatabase("pg")
	if _, err := e.pg(t.Context(), port); err == nil {
		t.Fatal("a database that is gone answered")
	}
	e.Await("the problem", func(s state.Snapshot) bool {
		p := s.Tunnels[0].Problem
		return p != nil && (p.Code == state.CodeUpstream || p.Code == state.CodeUnknownResource)
	})
}

func TestExpiryIsNoticed(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	item, _ := e.pgTunnel("pg")
	e.config(item)
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	e.Login(simcluster.WithTTL(4 * time.Second))
	tun := e.AwaitState("pg", state.TunnelWaitingForLogin)
	if tun.CertValidUntil != nil {
		t.Errorf("cert_valid_until = %v after the end", tun.CertValidUntil)
	}
	if p := e.Snapshot().Profiles[0]; p.State != state.ProfileExpired {
		t.Errorf("profile state = %s, want expired", p.State)
	}
	e.Login()
	e.AwaitState("pg", state.TunnelReady)
}

// TestDrain checks that a stop lets an open connection go on that is owed an
// answer, for the grace period, and that new ones are refused meanwhile.
func TestDrain(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	item, port := e.pgTunnel("pg")
	e.config(item)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		done <- Run(ctx, Options{Paths: e.Paths, Version: "test", Grace: wait,
			Logger: slog.New(slog.DiscardHandler), Ready: func() { close(ready) }})
	}()
	<-ready
	e.AwaitState("pg", state.TunnelReady)
	open := e.mustPG(port)
	ask := "Q\x00\x00\x00\rselect 1\x00"
	wire, sent := open.PgConn().Conn(), e.Snapshot().Tunnels[0].BytesOut
	if _, err := io.WriteString(wire, ask[:5]); err != nil { // half a question
		t.Fatal(err)
	}
	e.Await("berth to have read it", func(s state.Snapshot) bool { return s.Tunnels[0].BytesOut >= sent+5 })
	cancel()
	deadline := time.Now().Add(wait)
	for {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			break
		}
		_ = conn.Close() // it only had to be refused
		if time.Now().After(deadline) {
			t.Fatal("the port still listens after the stop")
		}
	}
	if _, err := io.WriteString(wire, ask[5:]); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(wire).ReadString('Z'); err != nil { // ready for the next
		t.Errorf("the answer to what was asked before the stop: %v", err)
	}
	if err := <-done; err != nil {
		t.Fatalf("agent: %v", err)
	}
	if _, err := servedBy(t.Context(), open); err == nil {
		t.Error("a connection outlived the agent")
	}
}

// childEnv makes the test binary run an agent for BERTH_HOME instead.
const childEnv = "BERTH_TEST_AGENT"

func childAgent() int {
	p, err := paths.Resolve(os.Getenv)
	if err == nil {
		opts := Options{Paths: p, Version: "test", Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
		if err = childSuccession(&opts); err == nil {
			ctx, end := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			defer end()
			err = runWith(ctx, opts, breakable)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// anyStopped reports whether a tunnel of TestKilledWhileWriting is stopped.
func anyStopped(s *memory.Store, rounds int) bool {
	for round := range rounds + 1 {
		for i := range 200 {
			if s.Stopped(fmt.Sprintf("r%d-%d", round, i)) {
				return true
			}
		}
	}
	return false
}

// TestKilledWhileWriting kills agents that are busy adding and stopping
// tunnels, at random moments, and checks that the config and the saved
// state can be read afterwards and that a new agent starts.
func TestKilledWhileWriting(t *testing.T) {
	testneeds.Time(t, "it kills eight agents at work")
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.config()
	for round := range 8 {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), childEnv+"=1", paths.HomeVar+"="+e.Dir)
		child.Stderr = io.Discard
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		e.Await("the child agent", func(s state.Snapshot) bool { return s.Agent.PID == child.Process.Pid })
		busy, stopped := make(chan struct{}), make(chan struct{}, 200)
		go func() {
			defer close(busy)
			c := client.Dial(e.Paths.Socket)
			defer c.Close()
			for i := range 200 {
				name := fmt.Sprintf("r%d-%d", round, i)
				if _, err := c.AddTunnel(t.Context(), state.TunnelSpec{
					Name: name, Kind: state.KindDB, Cluster: "c.test", Resource: name,
				}); err != nil {
					return // the agent is dead
				}
				if err := c.StopTunnel(t.Context(), name); err != nil {
					return
				}
				stopped <- struct{}{}
			}
		}()
		if round > 2 {
			<-stopped // however slow the machine is, some rounds have stopped one
		}
		time.Sleep(time.Duration(20+37*round) * time.Millisecond)
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // it was killed
		<-busy
		if _, err := config.Load(e.Paths.Config); err != nil {
			t.Fatalf("round %d: the config cannot be read after kill -9: %v", round, err)
		}
		if s, err := memory.Load(e.Paths.StateFile); err != nil {
			t.Fatalf("round %d: the saved state cannot be read after kill -9: %v", round, err)
		} else if round > 2 && !anyStopped(s, round) {
			t.Fatal("no tunnel was ever stopped: nothing was tested")
		}
	}
}

func TestSavedStateSetAside(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.config()
	if err := os.WriteFile(e.Paths.StateFile, []byte(`{"stopped": [`), 0o600); err != nil {
		t.Fatal(err)
	}
	e.start()
	s := e.Snapshot()
	if len(s.Problems) != 1 || s.Problems[0].Code != state.CodeStateUnreadable {
		t.Errorf("problems = %+v, want one %s", s.Problems, state.CodeStateUnreadable)
	}
	if _, err := os.Stat(e.Paths.StateFile + ".broken"); err != nil {
		t.Errorf("the broken state was not set aside: %v", err)
	}
}

// TestCancelRequestIsNoFailure cancels a query the way psql does on Ctrl-C: on
// a connection of its own that the server closes without an answer.
func TestCancelRequestIsNoFailure(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	item, port := e.pgTunnel("pg")
	e.config(item)
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	conn := e.mustPG(port)
	ctx, stop := context.WithCancel(t.Context())
	var person sync.WaitGroup
	person.Go(func() {
		for wake.Sleep(ctx, 50*time.Millisecond) { // one that comes before the query is for nothing
			_ = conn.PgConn().CancelRequest(t.Context()) // the query's error tells
		}
	})
	if _, err := conn.Exec(t.Context(), "select pg_sleep(10)"); err == nil {
		t.Error("the query was not cancelled")
	}
	stop()
	person.Wait()
	tun := e.Await("the cancel connection to end", func(s state.Snapshot) bool {
		return s.Tunnels[0].TotalConnections > 1 && s.Tunnels[0].Connections == 1
	}).Tunnels[0]
	if tun.State != state.TunnelReady || tun.Problem != nil || tun.LastErrorAt != nil {
		t.Errorf("after a cancelled query: state %s, problem %+v, last error %v", tun.State, tun.Problem, tun.LastErrorAt)
	}
}
