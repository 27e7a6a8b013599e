//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"berth/agent/handover"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/paths"
	"berth/internal/sdnotify"
	"berth/internal/sdnotify/sdnotifytest"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testwait"
)

const (
	// versionEnv is the version of a child's agent; stayEnv has it stay for its
	// successors.
	versionEnv = "BERTH_TEST_VERSION"
	stayEnv    = "BERTH_TEST_STAYS"
	// failEnv is how a child fails to take over: exit, hang, format or late.
	failEnv = "BERTH_TEST_FAILS"
)

// childSuccession lets a child be replaced, and take another one's place.
func childSuccession(opts *Options) error {
	if err := killBefore(os.Getenv(stepEnv), os.Getenv(stepsEnv)); err != nil {
		return err
	}
	opts.Version = os.Getenv(versionEnv)
	opts.Grace = 200 * time.Millisecond
	opts.Manager = sdnotify.FromEnv()
	opts.Kept = sdnotify.Kept()
	line, err := handover.FromEnv()
	if err != nil {
		return err
	}
	if line != nil {
		switch os.Getenv(failEnv) {
		case "exit":
			os.Exit(7)
		case "hang":
			select {}
		case "format":
			_ = line.Send(handover.Message{Kind: handover.Ready, Format: handover.Format + 1, Version: "9"})
			select {}
		case "late":
			_ = line.Send(handover.Message{Kind: handover.Ready, Format: handover.Format, Version: "9"})
			os.Exit(8)
		}
	}
	opts.Succession = Succession{Program: os.Args[0], Line: line, Stays: line == nil && os.Getenv(stayEnv) != ""}
	return nil
}

// breakable has a child's agent lose its control socket, and give up, on SIGUSR1.
func breakable(a *Agent) {
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGUSR1)
	go func() {
		<-broken
		_ = a.next.control.Listener.Close() // what follows shows in how the agent ends
	}()
}

// agentProcess is an agent in a process of its own, or those that came after it.
type agentProcess struct {
	*env
	cmd *exec.Cmd
	end chan error
}

// startProcess starts an agent as a process.
func (e *env) startProcess(environ ...string) *agentProcess {
	e.t.Helper()
	return e.startBy((*exec.Cmd).Start, environ...)
}

func (e *env) startBy(start func(*exec.Cmd) error, environ ...string) *agentProcess {
	e.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1", versionEnv+"=1", paths.HomeVar+"="+e.Dir)
	cmd.Env = append(cmd.Env, environ...)
	log, err := os.Create(filepath.Join(e.t.TempDir(), "log")) // not a pipe, which successors would keep open
	if err != nil {
		e.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := start(cmd); err != nil {
		e.t.Fatal(err)
	}
	p := &agentProcess{env: e, cmd: cmd, end: make(chan error, 1)}
	go func() { p.end <- cmd.Wait() }()
	e.t.Cleanup(func() {
		p.stop()
		_ = cmd.Process.Kill() // it has ended, unless the test failed
		if text, err := os.ReadFile(log.Name()); err == nil && e.t.Failed() {
			e.t.Logf("agents' log:\n%s", text)
		}
		_ = log.Close()
	})
	testwait.Eventually(e.t, "the agent answers", func() bool { _, err := p.info(); return err == nil })
	return p
}

func (p *agentProcess) info() (state.Agent, error) {
	c := client.Dial(p.Paths.Socket)
	defer func() { _ = c.Close() }()
	return c.Info(context.Background())
}

// stop asks the agent that answers to stop.
func (p *agentProcess) stop() {
	c := client.Dial(p.Paths.Socket)
	defer func() { _ = c.Close() }()
	if c.Shutdown(context.Background()) == nil {
		testwait.Until(func() bool { _, err := os.Stat(p.Paths.LockPID()); return err != nil })
	}
}

// restart has a successor take over.
func (p *agentProcess) restart(environ ...string) (client.Successor, error) {
	p.t.Helper()
	c := client.Dial(p.Paths.Socket)
	defer func() { _ = c.Close() }()
	return c.HandOver(p.t.Context(), "", environ)
}

func (p *agentProcess) mustRestart(environ ...string) client.Successor {
	p.t.Helper()
	next, err := p.restart(environ...)
	if err != nil {
		p.t.Fatalf("hand over: %v", err)
	}
	return next
}

// sayPG sends what a client of Postgres says first, and reads until it is served.
func sayPG(c net.Conn) error {
	const startup = "\x00\x00\x00\x21\x00\x03\x00\x00user\x00alice\x00database\x00app\x00\x00"
	_ = c.SetDeadline(time.Now().Add(wait))
	if _, err := io.WriteString(c, startup); err != nil {
		return err
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(c, first); err != nil {
		return err
	}
	if first[0] != 'R' {
		rest, _ := io.ReadAll(c)
		return fmt.Errorf("answered %q", string(first)+string(rest))
	}
	return nil
}

// TestRestartsRefuseNoClient: clients connect all the time while agents take each
// other's place, one of another version, and others fail to.
func TestRestartsRefuseNoClient(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	item, port := e.pgTunnel("pg", "hold: 2m")
	e.kubeConfig(simworld.FreePort(t), item, e.kubeTunnel("k8s", "prod"))
	p := e.startProcess()
	e.AwaitState("pg", state.TunnelWaitingForLogin)
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))

	// Three clients wait for a login: one says something, one does later, and one
	// speaks TLS.
	waiting := make(chan error, 3)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	early, silent := dial(), dial()
	go func() { waiting <- sayPG(early) }()
	go func() {
		cfg, err := pgx.ParseConfig("postgres://alice@" + addr + "/app?sslmode=require")
		if err != nil {
			waiting <- err
			return
		}
		conn, err := pgx.ConnectConfig(context.Background(), cfg)
		if err == nil {
			_ = conn.Close(context.Background())
		}
		waiting <- err
	}()
	e.Await("three held clients", func(s state.Snapshot) bool { return s.Tunnels[0].Waiting == 3 })

	ctx, cancel := context.WithCancel(t.Context())
	var connects, asked atomic.Int64
	var clients sync.WaitGroup
	failed := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for range 4 {
		clients.Go(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				<-tick.C
				c, err := net.Dial("tcp", addr)
				failed("connect", err)
				if err != nil {
					return
				}
				connects.Add(1)
				_ = c.(*net.TCPConn).SetLinger(0) // no port of this test lingers
				_ = c.Close()
			}
		})
	}
	clients.Go(func() {
		for ctx.Err() == nil {
			_, err := p.info()
			failed("ask the agent", err)
			asked.Add(1)
		}
	})

	began := time.Now()
	for range 4 {
		p.mustRestart()
	}
	if next := p.mustRestart(versionEnv + "=2"); next.Version != "2" {
		t.Errorf("the successor is of version %q", next.Version)
	}
	for _, how := range []string{"exit", "format", "late"} {
		_, err := p.restart(failEnv + "=" + how)
		if err == nil || !strings.Contains(err.Error(), "goes on") {
			t.Errorf("a successor that fails (%s): %v", how, err)
		}
	}
	if info, err := p.info(); err != nil || info.Version != "2" {
		t.Errorf("after failed upgrades the agent is %+v, %v", info, err)
	}
	took := time.Since(began)
	e.Login()
	e.AwaitState("pg", state.TunnelReady)
	go func() { waiting <- sayPG(silent) }()
	for range 3 {
		if err := <-waiting; err != nil {
			t.Errorf("a held client: %v", err)
		}
	}
	cancel()
	clients.Wait()
	t.Logf("%d connects (%.0f a second), %d questions over 5 restarts and 3 failed ones in %v",
		connects.Load(), float64(connects.Load())/took.Seconds(), asked.Load(), took)
}

// TestOpenConnectionsStay: a connection outlives the agent that opened it, is seen in
// the status, and counters and history go on.
func TestOpenConnectionsStay(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	item, port := e.pgTunnel("pg")
	other, otherPort := e.pgTunnel("other")
	e.config(item, other)
	p := e.startProcess()
	e.AwaitState("pg", state.TunnelReady)
	e.AwaitState("other", state.TunnelReady)
	first, second := e.mustPG(port), e.mustPG(otherPort)
	serial := e.serial(first)
	p.mustRestart()
	e.Await("two connections that drain", func(s state.Snapshot) bool { return s.Agent.Draining == 2 })
	p.mustRestart()
	e.AwaitState("pg", state.TunnelReady)
	after := e.Await("two connections that drain", func(s state.Snapshot) bool { return s.Agent.Draining == 2 })
	if e.serial(first) != serial {
		t.Error("the connection is another one")
	}
	if got := after.Tunnels[0].TotalConnections; got != 1 {
		t.Errorf("%d connections in all, want 1", got)
	}
	events, err := e.Client().TunnelHistory(t.Context(), "pg")
	if err != nil || len(events) == 0 || !strings.Contains(fmt.Sprint(events), "first cert fetched") {
		t.Errorf("history: %v, %v", events, err)
	}
	e.serial(first)
	more := e.Await("what the first agent moves to be counted", func(s state.Snapshot) bool {
		return s.Tunnels[0].BytesIn > after.Tunnels[0].BytesIn && s.Tunnels[0].BytesOut > after.Tunnels[0].BytesOut
	})
	if got := more.Tunnels[0].TotalConnections; got != 1 {
		t.Errorf("%d connections in all, want 1 still", got)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Error(err)
	}
	e.Await("one connection that drains", func(s state.Snapshot) bool { return s.Agent.Draining == 1 })
	if err := e.Client().RestartTunnel(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	e.Await("no connection that drains", func(s state.Snapshot) bool { return s.Agent.Draining == 0 })
	if _, err := servedBy(t.Context(), second); err == nil {
		t.Error("a connection outlived the restart of its tunnel")
	}
	if err := <-p.end; err != nil {
		t.Errorf("the first agent ended with %v", err)
	}
}

// TestRolesGoWhileConnectionsDrain: on_drop counts for the connections too that the
// agent before opened with the roles.
func TestRolesGoWhileConnectionsDrain(t *testing.T) {
	for _, closes := range []bool{false, true} {
		t.Run(fmt.Sprintf("closes_%v", closes), func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, requestsConfig())
			e.Login()
			item, port := e.pgTunnel("pg")
			e.config(item)
			if closes {
				e.appendConfig("access: {on_drop: close}")
			}
			p := e.startProcess()
			e.AwaitState("pg", state.TunnelReady)
			e.awaitWatch()
			id := e.approved("dba")
			if _, err := e.Client().AssumeRequest(t.Context(), client.Assume{ID: id, Tunnel: "pg"}); err != nil {
				t.Fatal(err)
			}
			testwait.Eventually(t, "new connections have the roles", func() bool { return e.rolesAt(port) == "access,dba" })
			kept := e.mustPG(port)
			p.mustRestart()
			e.AwaitState("pg", state.TunnelReady)
			e.Await("a connection that drains", func(s state.Snapshot) bool { return s.Agent.Draining == 1 })
			if _, err := e.Client().DropRequests(t.Context(), []string{id}, "pg"); err != nil {
				t.Fatal(err)
			}
			testwait.Eventually(t, "new connections lack the roles", func() bool { return e.rolesAt(port) == "access" })
			if closes {
				e.Await("no connection that drains", func(s state.Snapshot) bool { return s.Agent.Draining == 0 })
			}
			if _, err := servedBy(t.Context(), kept); (err != nil) != closes {
				t.Errorf("the connection with the roles: %v", err)
			}
		})
	}
}

// TestNoticesGoOn: a successor shows what the agent before it has shown, and nothing that
// was dismissed.
func TestNoticesGoOn(t *testing.T) {
	t.Parallel()
	e := newEnv(t, requestsConfig())
	e.Login()
	e.config()
	p := e.startProcess()
	e.awaitWatch()
	mine, theirs := e.approved("dba"), e.Sim.PutAccessRequest(simcluster.AccessRequest{User: "bob", Roles: []string{"dba"}})
	shown := func(kind state.NoticeKind, request string) func(state.Snapshot) bool {
		return func(s state.Snapshot) bool {
			return slices.ContainsFunc(s.Notices, func(n state.Notice) bool { return n.Kind == kind && n.Actions[0].Request == request })
		}
	}
	approved, review := shown(state.NoticeApproved, mine), shown(state.NoticeReview, theirs)
	s := e.Await("both notices", func(s state.Snapshot) bool { return approved(s) && review(s) })
	for _, n := range s.Notices {
		if n.Kind == state.NoticeReview {
			if err := e.Client().DismissNotice(t.Context(), n.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.mustRestart()
	s = e.Await("the approval's notice", approved)
	if len(s.Requests) != 2 || review(s) {
		t.Errorf("of the requests %+v there are the notices %+v", s.Requests, s.Notices)
	}
}

// TestCrashWhileConnectionsDrain: an agent that has taken over and is killed can be
// replaced at once, though the one before it still serves a connection.
func TestCrashWhileConnectionsDrain(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	item, port := e.pgTunnel("pg")
	e.config(item)
	p := e.startProcess()
	e.AwaitState("pg", state.TunnelReady)
	kept := e.mustPG(port)
	next := p.mustRestart()
	if err := syscall.Kill(next.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testwait.Eventually(t, "the agent is gone", func() bool { _, err := p.info(); return err != nil })
	another := e.startProcess()
	e.AwaitState("pg", state.TunnelReady)
	if info, err := another.info(); err != nil || info.PID != another.cmd.Process.Pid {
		t.Errorf("the agent is %+v, %v", info, err)
	}
	if _, err := servedBy(t.Context(), kept); err != nil {
		t.Errorf("the connection that drains: %v", err)
	}
	if _, err := servedBy(t.Context(), e.mustPG(port)); err != nil {
		t.Errorf("a new connection: %v", err)
	}
}

// TestWatchedAgentStays: where the starter watches the first process, that ends as its
// successors do.
func TestWatchedAgentStays(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end  func(*agentProcess, client.Successor)
		want int // exit code
	}{
		"asked":  {func(p *agentProcess, _ client.Successor) { p.stop() }, 0},
		"killed": {func(_ *agentProcess, next client.Successor) { _ = syscall.Kill(next.PID, syscall.SIGKILL) }, 1},
		"broken": {func(_ *agentProcess, next client.Successor) { _ = syscall.Kill(next.PID, syscall.SIGUSR1) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, simcluster.Config{})
			e.config()
			p := e.startProcess(stayEnv + "=1")
			p.mustRestart()
			next := p.mustRestart()
			group, err := syscall.Getpgid(p.cmd.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			// By it the commands know the newest agent as the service's.
			if got, err := syscall.Getpgid(next.PID); got != group {
				t.Errorf("the newest agent is in group %d, %v, want %d, the first one's", got, err, group)
			}
			select {
			case err := <-p.end:
				t.Fatalf("the first agent has ended: %v", err)
			case <-time.After(answerTime + answerTime/2):
			}
			test.end(p, next)
			err = <-p.end
			code := 0
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				code = exit.ExitCode()
			}
			if code != test.want {
				t.Errorf("the first agent ended with %v, want code %d", err, test.want)
			}
		})
	}
}

// TestCrashKeepsThePorts plays a service manager that keeps sockets: the agent is
// killed, and clients that connect meanwhile are served by the next one.
func TestCrashKeepsThePorts(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	item, port := e.pgTunnel("pg")
	e.config(item)
	m := newManager(t)
	p := e.startProcess("NOTIFY_SOCKET=" + m.Path)
	first := p.mustRestart()
	testwait.Eventually(t, "the manager follows", func() bool { return m.MainPID() == first.PID })
	<-p.end
	e.AwaitState("pg", state.TunnelReady)
	testwait.Eventually(t, "the sockets are kept", func() bool { return m.Kept() >= 2 })
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testwait.Eventually(t, "the process is gone", func() bool {
		f, err := os.Open(e.Paths.Lock)
		if err != nil {
			return false
		}
		defer f.Close()
		return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
	})
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatalf("connect while no agent runs: %v", err)
	}
	defer c.Close()
	served := make(chan error, 1)
	go func() { served <- sayPG(c) }()
	e.startKept(m)
	if err := <-served; err != nil {
		t.Errorf("the client that came meanwhile: %v", err)
	}
}

// TestStopKeepsThePorts: an agent that is stopped, as by a restart of the service,
// leaves its sockets to the service manager.
func TestStopKeepsThePorts(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	items := make([]string, 20)
	for i := range items {
		items[i], _ = e.pgTunnel(fmt.Sprintf("pg%d", i))
	}
	e.config(items...)
	m := newManager(t)
	p := e.startProcess("NOTIFY_SOCKET=" + m.Path)
	testwait.Eventually(t, "the sockets are kept", func() bool { return m.Kept() == 2*len(items) })
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.end
	testwait.Never(t, "a socket is forgotten", func() bool { return m.Kept() < 2*len(items) })
	e.startKept(m)
}

// TestStopForGoodClosesThePorts: an agent that is asked to stop, and not to make room
// for the next one, leaves no port open behind it.
func TestStopForGoodClosesThePorts(t *testing.T) {
	e := newEnv(t, simcluster.Config{})
	item, _ := e.pgTunnel("pg")
	e.config(item)
	m := newManager(t)
	p := e.startProcess("NOTIFY_SOCKET=" + m.Path)
	testwait.Eventually(t, "the sockets are kept", func() bool { return m.Kept() == 2 })
	p.stop()
	if err := <-p.end; err != nil {
		t.Error(err)
	}
	testwait.Eventually(t, "the sockets are forgotten", func() bool { return m.Kept() == 0 })
}

// TestSuccessorForgetsLater: the service manager keeps a socket for which a successor
// has no use until the successor is the main process.
func TestSuccessorForgetsLater(t *testing.T) {
	m := newManager(t)
	listen := func() *net.TCPListener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() }) // the successor closes one
		return l.(*net.TCPListener)
	}
	spare, other := listen(), listen()
	s := succession{log: slog.New(slog.DiscardHandler), opts: Options{
		Manager: sdnotify.At(m.Path), Kept: []*net.TCPListener{spare}, Succession: Succession{Line: &handover.Line{}},
	}}
	s.init(t.Context())
	s.keepSocket(spare)
	s.sockets.CloseSpare()
	s.keepSocket(other) // what was said before is heard before
	testwait.Eventually(t, "both sockets are kept", func() bool { return m.Kept() == 2 })
	s.becomeMain()
	testwait.Eventually(t, "the spare one is forgotten", func() bool { return m.Kept() == 1 })
}

// newManager is a service manager that keeps sockets.
func newManager(t *testing.T) *sdnotifytest.Manager {
	t.Helper()
	m, err := sdnotifytest.New(t.TempDir() + "/notify")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Hear()
	}()
	t.Cleanup(func() {
		_ = m.Close()
		<-done
	})
	return m
}

// startKept starts an agent with what the manager has kept.
func (e *env) startKept(m *sdnotifytest.Manager) *agentProcess {
	e.t.Helper()
	return e.startBy(m.Start, "NOTIFY_SOCKET="+m.Path)
}
