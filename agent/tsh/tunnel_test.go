package tsh

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/testneeds"
	"berth/internal/testwait"
	"berth/internal/wake"
)

// quick is defaultTiming for tests.
var quick = timing{
	ready:   testwait.Patience,
	prompt:  5 * time.Second,
	settle:  150 * time.Millisecond,
	retry:   10 * time.Millisecond,
	first:   50 * time.Millisecond,
	longest: 200 * time.Millisecond,
	healthy: time.Minute,
}

// runTunnel starts a tunnel over the fake that plays part, behind an open gate.
func runTunnel(t *testing.T, part string, tm timing) (tunnel *Tunnel, dir string) {
	t.Helper()
	program := useFake(t, part)
	tunnel, err := NewTunnel(TunnelConfig{
		Path: program, Home: "/a/home", Proxy: "example.com:443", Cluster: "leaf",
		Target: Database{Name: "pg", User: "alice", DBName: "app"}, Insecure: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	tunnel.time = tm
	tunnel.Gate(true)
	runUntilEnd(t, tunnel)
	return tunnel, filepath.Dir(program)
}

func runUntilEnd(t *testing.T, tunnel *Tunnel) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tunnel.Run(ctx) }()
	t.Cleanup(func() {
		start := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		testwait.Soon(t, "the end of Run", time.Since(start), killGrace+2*time.Second)
		if s := tunnel.Status(); s.Port != 0 || s.Draining != 0 {
			t.Errorf("after Run children are left: %+v", s)
		}
	})
}

func mustDial(t *testing.T, tunnel *Tunnel) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Patience)
	defer cancel()
	conn, err := tunnel.Dial(ctx)
	if err != nil {
		t.Fatalf("Dial: %v (status %+v)", err, tunnel.Status())
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ask sends a line and returns the pid of the child that answers.
func ask(t *testing.T, conn net.Conn) int {
	t.Helper()
	say(t, conn)
	return hear(t, conn)
}

func say(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(testwait.Patience))
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		t.Fatalf("write: %v", err)
	}
}

func hear(t *testing.T, conn net.Conn) int {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(testwait.Patience))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	pid, text, _ := strings.Cut(strings.TrimSpace(line), " ")
	n, err := strconv.Atoi(pid)
	if err != nil || text != "hello" {
		t.Fatalf("the echo is %q", line)
	}
	return n
}

func TestTunnelCarriesConnections(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"serve", "stubborn"} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			tunnel, dir := runTunnel(t, part, quick)
			conn := mustDial(t, tunnel)
			s := tunnel.Status()
			if pid := ask(t, conn); s.State != StateReady || s.PID != pid || s.LastError != nil {
				t.Errorf("status %+v, the child that answers is %d", s, pid)
			}
			if _, ok := conn.(interface{ CloseWrite() error }); !ok {
				t.Error("the connection cannot pass on a half-close")
			}
			want := fmt.Sprintf("proxy\ndb\n--tunnel\n--port=%d\n--db-user=alice\n--db-name=app\n--cluster=leaf\n"+
				"--proxy=example.com:443\n--insecure\npg\n", s.Port)
			if got := readNote(t, dir, "args"); got != want {
				t.Errorf("arguments %q, want %q", got, want)
			}
			if env := readNote(t, dir, "env"); !strings.Contains(env, "TELEPORT_HOME=/a/home\n") {
				t.Errorf("no TELEPORT_HOME in %s", env)
			}
		})
	}
}

func TestServerThatSpeaksFirstIsReady(t *testing.T) {
	tunnel, _ := runTunnel(t, "speaks_first", quick)
	buf := make([]byte, 5)
	if _, err := mustDial(t, tunnel).Read(buf); err != nil || string(buf) != "hello" {
		t.Errorf("read %q, %v", buf, err)
	}
}

func TestTunnelFailures(t *testing.T) {
	t.Parallel()
	tests := []struct {
		part  string
		ready time.Duration
		says  string
	}{
		{"exits", testwait.Patience, `tsh proxy db exited with code 1: database "nope" not found in cluster`},
		{"exits_after_banner", testwait.Patience, "tsh proxy db exited with code 1: access to resource requires MFA"},
		{"hangs", time.Second, "tsh was not ready in time"},
		{"garbage", 10 * time.Second, "tsh was not ready in time: it last said: confused"}, // which it has to say first
		{"closes_at_once", testwait.Patience, errClosesAtOnce.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.part, func(t *testing.T) {
			if tt.part == "garbage" {
				testneeds.Time(t, "what it says takes a while on a busy machine")
			}
			t.Parallel()
			tm := quick
			tm.ready, tm.first, tm.longest = tt.ready, time.Minute, time.Minute // stays in its first pause
			tm.settle = testwait.Patience                                       // a probe ends with its connection
			tunnel, _ := runTunnel(t, tt.part, tm)
			ctx, cancel := context.WithTimeout(t.Context(), testwait.Patience)
			defer cancel()
			_, err := tunnel.Dial(ctx)
			if err == nil || err.Error() != tt.says {
				t.Errorf("Dial: %v, want %q", err, tt.says)
			}
			if s := tunnel.Status(); s.State != StateFailing || s.Failures != 1 || s.Port != 0 {
				t.Errorf("status %+v", s)
			}
			cancel() // which no answer comes from that waits
			if err := ready(ctx, tunnel); err == nil || err.Error() != tt.says {
				t.Errorf("a failing tunnel is ready: %v, want %q at once", err, tt.says)
			}
		})
	}
}

func TestTunnelTriesAgain(t *testing.T) {
	t.Parallel()
	tunnel, dir := runTunnel(t, "flaky", quick)
	testwait.Eventually(t, "the third child to be ready", func() bool { return tunnel.Status().State == StateReady })
	if runs := len(readNote(t, dir, "runs")); runs != 3 {
		t.Errorf("%d children were started, want 3", runs)
	}
	if s := tunnel.Status(); s.LastError != nil || s.Failures != 2 {
		t.Errorf("status %+v, want no error and 2 failures remembered", s)
	}
}

func TestTunnelReplacesAChildThatDies(t *testing.T) {
	t.Parallel()
	tunnel, _ := runTunnel(t, "serve", quick)
	pid := ask(t, mustDial(t, tunnel))
	victim, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Kill(); err != nil {
		t.Fatal(err)
	}
	testwait.Eventually(t, "another child", func() bool {
		s := tunnel.Status()
		return s.State == StateReady && s.PID != pid
	})
	if got := ask(t, mustDial(t, tunnel)); got == pid {
		t.Errorf("the dead child %d answers", pid)
	}
}

func TestRestartKeepsOpenConnections(t *testing.T) {
	t.Parallel()
	tunnel, _ := runTunnel(t, "serve", quick)
	old := mustDial(t, tunnel)
	oldPID := ask(t, old)
	tunnel.Restart("/a/home", false)
	testwait.Eventually(t, "the new child", func() bool {
		s := tunnel.Status()
		return s.State == StateReady && s.PID != oldPID
	})
	if pid := ask(t, mustDial(t, tunnel)); pid == oldPID {
		t.Error("a new connection goes to the old child")
	}
	if pid := ask(t, old); pid != oldPID {
		t.Errorf("the open connection is answered by %d, want the old child %d", pid, oldPID)
	}
	if s := tunnel.Status(); s.Draining != 1 {
		t.Errorf("status %+v, want one child draining", s)
	}
	if err := old.Close(); err != nil {
		t.Error(err)
	}
	testwait.Eventually(t, "the old child to end with its last connection", func() bool {
		return tunnel.Status().Draining == 0 && !running(oldPID)
	})
}

func TestRestartsDoNotPileUpChildren(t *testing.T) {
	t.Parallel()
	tunnel, _ := runTunnel(t, "serve", quick)
	var conns []net.Conn
	for range maxDraining + 2 {
		conn := mustDial(t, tunnel)
		conns = append(conns, conn)
		pid := ask(t, conn)
		tunnel.Restart("/a/home", false)
		testwait.Eventually(t, "the next child", func() bool {
			s := tunnel.Status()
			return s.State == StateReady && s.PID != pid
		})
	}
	testwait.Eventually(t, "the oldest children to end", func() bool { return tunnel.Status().Draining == maxDraining })
	_ = conns[0].SetDeadline(time.Now().Add(testwait.Patience))
	if _, err := conns[0].Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the oldest connection still lives: %v", err)
	}
	ask(t, conns[len(conns)-1])
}

// TestSlowEndsPileUpNoChildren: a child that takes its time to end keeps no other from
// ending.
func TestSlowEndsPileUpNoChildren(t *testing.T) {
	tunnel := &Tunnel{log: slog.New(slog.DiscardHandler)}
	var ended [maxDraining + 2]bool
	for i := range ended {
		tunnel.retireLocked(&child{conns: 1, cancel: func() { ended[i] = true }, proc: &process{done: make(chan struct{})}}, 0)
	}
	for i, got := range ended {
		if want := i < len(ended)-maxDraining; got != want {
			t.Errorf("of %d replaced children number %d is to end: %v, want %v", len(ended), i+1, got, want)
		}
	}
}

func TestFailedRestartKeepsTheOldChild(t *testing.T) {
	t.Parallel()
	tunnel, _ := runTunnel(t, "fails_later", quick)
	pid := ask(t, mustDial(t, tunnel))
	tunnel.Restart("/a/home", false)
	testwait.Eventually(t, "the restart to fail", func() bool { return tunnel.Status().LastError != nil })
	if s := tunnel.Status(); s.State != StateReady || s.PID != pid {
		t.Errorf("status %+v, want ready with child %d", s, pid)
	}
	if got := ask(t, mustDial(t, tunnel)); got != pid {
		t.Errorf("child %d answers, want %d", got, pid)
	}
}

func TestGate(t *testing.T) {
	t.Parallel()
	tunnel, dir := runTunnel(t, "serve", quick)
	open := mustDial(t, tunnel)
	pid := ask(t, open)
	tunnel.Gate(false)
	testwait.Eventually(t, "the gate to close", func() bool { return tunnel.Status().State == StateGated })

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := tunnel.Dial(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial behind a closed gate: %v, want it to wait", err)
	}
	if got := ask(t, open); got != pid {
		t.Errorf("the open connection is answered by %d, want %d", got, pid)
	}
	if runs := len(readNote(t, dir, "runs")); runs != 1 {
		t.Errorf("%d children were started behind a closed gate", runs-1)
	}
	_ = open.Close()
	testwait.Eventually(t, "the child to end with its last connection", func() bool { return !running(pid) })

	waiting := make(chan error, 1)
	go func() { waiting <- ready(context.Background(), tunnel) }()
	tunnel.Gate(true)
	if err := <-waiting; err != nil {
		t.Errorf("a client that waited at the gate: %v", err)
	}
	if got := ask(t, mustDial(t, tunnel)); got == pid {
		t.Error("the old child answers")
	}
}

func TestGateClosedDuringAStart(t *testing.T) {
	tunnel, dir := runTunnel(t, "hangs", quick)
	testwait.Eventually(t, "a child to start", func() bool { return readNote(t, dir, "runs") != "" })
	start := time.Now()
	tunnel.Gate(false)
	testwait.Eventually(t, "the gate to close", func() bool { return tunnel.Status().State == StateGated })
	testwait.Soon(t, "closing the gate", time.Since(start), 2*time.Second)
}

// TestRestartDuringTheLastLook: a child that starts with what was given up takes no
// connection, however far it has come.
func TestRestartDuringTheLastLook(t *testing.T) {
	t.Parallel()
	program := useFake(t, "notes_clients")
	tunnel, err := NewTunnel(TunnelConfig{
		Path: program, Home: "/given/up", Target: Database{Name: "pg"}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	homes := make(chan string, 100)
	tunnel.cfg.OnChange = func() {
		if home, ok := tunnel.Home(); ok {
			homes <- home
		}
	}
	tunnel.time = quick
	tunnel.time.settle = testwait.Patience // it looks until the child speaks
	tunnel.Gate(true)
	runUntilEnd(t, tunnel)
	dir := filepath.Dir(program)
	testwait.Eventually(t, "the look at the first child", func() bool { return readNote(t, dir, "clients") != "" })
	tunnel.Restart("/another/home", true)
	leaveNote(t, dir, "speak")
	if home := <-homes; home != "/another/home" {
		t.Errorf("a child with the home %s takes connections", home)
	}
}

func TestRestartEndsAPause(t *testing.T) {
	t.Parallel()
	tm := quick
	tm.first, tm.longest = time.Hour, time.Hour
	tunnel, _ := runTunnel(t, "flaky", tm)
	for failures := 1; failures <= 2; failures++ {
		testwait.Eventually(t, "the child to fail", func() bool {
			s := tunnel.Status()
			return s.State == StateFailing && s.Failures == failures
		})
		tunnel.Restart("/a/home", false)
	}
	testwait.Eventually(t, "the tunnel to be ready", func() bool { return tunnel.Status().State == StateReady })
}

// TestPortIsTaken: a port that another program took first is no failure.
func TestPortIsTaken(t *testing.T) {
	t.Parallel()
	tm := quick
	tm.ready, tm.first, tm.longest = testwait.Patience, time.Hour, time.Hour // no pause ends
	tunnel, _ := runTunnel(t, "port_is_taken", tm)
	ask(t, mustDial(t, tunnel))
	if s := tunnel.Status(); s.Failures != 0 || s.LastError != nil {
		t.Errorf("status %+v", s)
	}
}

func TestPromptGivesMoreTime(t *testing.T) {
	t.Parallel()
	tm := quick
	tm.ready, tm.prompt = 3*time.Second, testwait.Patience // a child that takes longer to ask is not the last
	tunnel, dir := runTunnel(t, "taps", tm)
	testwait.Eventually(t, "the prompt", func() bool { return tunnel.Status().Prompt == tapWords })
	time.Sleep(tm.ready)
	leaveNote(t, dir, "tapped")
	ask(t, mustDial(t, tunnel))
	if s := tunnel.Status(); s.Prompt != "" {
		t.Errorf("prompt %q is left", s.Prompt)
	}
}

// TestPromptOnceItListens: what tsh asks right after it has said that it listens still
// stands when it is ready, however late berth reads either.
func TestPromptOnceItListens(t *testing.T) {
	t.Parallel()
	tm := quick
	tm.ready, tm.prompt = testwait.Patience, testwait.Patience
	tm.settle = 5 * time.Second // enough to read the prompt on a busy machine
	var all []*Tunnel
	for range 20 {
		tunnel, _ := runTunnel(t, "taps_listening", tm)
		all = append(all, tunnel)
	}
	for _, tunnel := range all {
		testwait.Eventually(t, "the tunnel to be ready", func() bool { return tunnel.Status().State == StateReady })
		if s := tunnel.Status(); s.Prompt != tapWords {
			t.Errorf("ready with prompt %q, want %q", s.Prompt, tapWords)
		}
	}
}

// TestReadyTellsOfThePrompt: what tsh asks once it listens is known from the moment
// at which it counts as ready, or clients would be let through to wait there, unseen.
func TestReadyTellsOfThePrompt(t *testing.T) {
	t.Parallel()
	tunnel, err := NewTunnel(TunnelConfig{
		Path: useFake(t, "asks_pin_first_client"), Target: Database{Name: "pg"}, Terminal: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan Status, 100)
	tunnel.cfg.OnChange = func() {
		if s := tunnel.Status(); s.State == StateReady {
			ready <- s
		}
	}
	tunnel.time = quick
	tunnel.time.settle = 10 * time.Second // enough to ask on a busy machine
	tunnel.Gate(true)
	runUntilEnd(t, tunnel)
	if s := <-ready; !s.PIN || s.Prompt != "Enter your security key PIN:" {
		t.Errorf("ready with %+v; want its PIN asked for", s)
	}
}

// TestUnansweredPIN: tsh would wait forever for a PIN, so the client is refused and the
// next one causes another prompt. Connections opened with an earlier PIN stay.
func TestUnansweredPIN(t *testing.T) {
	testneeds.Time(t, "a prompt must time out")
	t.Parallel()
	tunnel := pinTunnel(t, "wants_pin_each_client", 6*time.Second)
	asked := asksPIN(tunnel)
	gaveUp := func() bool {
		s := tunnel.Status()
		return s.State == StateFailing && errors.Is(s.LastError, ErrFactor) && !s.PIN && s.Prompt == ""
	}
	testwait.Eventually(t, "the PIN to be asked for", asked)
	conn := mustDial(t, tunnel)
	if err := conn.SetReadDeadline(time.Now().Add(testwait.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the client still waits")
	}
	testwait.Eventually(t, "the tunnel to say why", gaveUp)
	if _, err := tunnel.Dial(t.Context()); !errors.Is(err, ErrFactor) {
		t.Errorf("the next Dial: %v, want ErrFactor", err)
	}

	testwait.Eventually(t, "another try", tunnel.TryAgain)
	typed := typesPIN(t, tunnel)
	testwait.Eventually(t, "the PIN to be typed for berth's own connection", typed)
	testwait.Eventually(t, "the tunnel to be ready", func() bool { return tunnel.Status().State == StateReady })
	works := mustDial(t, tunnel)
	testwait.Eventually(t, "the PIN to be typed for the client", typed)
	ask(t, works)
	waits := mustDial(t, tunnel)
	testwait.Eventually(t, "the PIN to be asked for once more", asked)
	if s := tunnel.Status(); s.Waiting != 1 {
		t.Errorf("%d connections wait for the PIN, want the one that has no answer", s.Waiting)
	}
	testwait.Eventually(t, "the tunnel to say why again", gaveUp)
	_ = waits.SetReadDeadline(time.Now().Add(testwait.Patience)) // fails on a closed connection only
	if _, err := waits.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the client that waits for the PIN: %v, want it to be closed", err)
	}
	ask(t, works)
	if s := tunnel.Status(); s.Draining != 1 {
		t.Errorf("%d children carry connections, want the one that was given up", s.Draining)
	}
}

// pinTunnel runs a tunnel over a fake that asks for PINs, each of which may take as long
// as prompt.
func pinTunnel(t *testing.T, part string, prompt time.Duration) *Tunnel {
	t.Helper()
	tunnel, err := NewTunnel(TunnelConfig{
		Path: useFake(t, part), Target: Database{Name: "pg"}, Terminal: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	tunnel.time = quick
	tunnel.time.ready, tunnel.time.prompt = testwait.Patience, prompt
	tunnel.Gate(true)
	runUntilEnd(t, tunnel)
	return tunnel
}

func asksPIN(tunnel *Tunnel) func() bool {
	return func() bool { s := tunnel.Status(); return s.State == StateReady && s.PIN }
}

func typesPIN(t *testing.T, tunnel *Tunnel) func() bool {
	return func() bool { return tunnel.AnswerPIN(t.Context(), "1234") == nil }
}

// wantReplaced expects conn to be closed with ErrReplaced, whether its client waits or
// goes on asking.
func wantReplaced(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(testwait.Patience)) // fails on a closed connection only
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, ErrReplaced) {
		t.Errorf("the client that waits for the key reads %v, want ErrReplaced", err)
	}
	if _, err := conn.Write([]byte("more")); !errors.Is(err, ErrReplaced) {
		t.Errorf("the client that waits for the key writes with %v, want ErrReplaced", err)
	}
}

// TestReplacedWhilePINIsAsked: the prompt of a child that is replaced, or whose session
// has ended, reaches no person, so its clients are not left waiting there. Connections opened
// with an earlier PIN stay.
func TestReplacedWhilePINIsAsked(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string]func(*Tunnel){
		"restart": func(tunnel *Tunnel) { tunnel.Restart("/a/home", false) },
		"leave":   func(tunnel *Tunnel) { tunnel.Restart("/another/home", true) },
		"gate": func(tunnel *Tunnel) {
			tunnel.Gate(false)
			tunnel.Gate(true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tunnel := pinTunnel(t, "wants_pin_each_client", testwait.Patience)
			testwait.Eventually(t, "the PIN to be asked for", asksPIN(tunnel))
			waits, pid := mustDial(t, tunnel), tunnel.Status().PID
			replace(tunnel)
			wantReplaced(t, waits)
			testwait.Eventually(t, "the next child to ask for it", func() bool { return asksPIN(tunnel)() && tunnel.Status().PID != pid })

			typed := typesPIN(t, tunnel)
			testwait.Eventually(t, "the PIN to be typed for berth's own connection", typed)
			works := mustDial(t, tunnel)
			testwait.Eventually(t, "the PIN to be typed for the client", typed)
			ask(t, works)
			waits, pid = mustDial(t, tunnel), tunnel.Status().PID
			testwait.Eventually(t, "the PIN to be asked for once more", asksPIN(tunnel))
			replace(tunnel)
			wantReplaced(t, waits)
			ask(t, works)
			testwait.Eventually(t, "the PIN to be typed for the third child", func() bool { return tunnel.Status().PID != pid && typed() })
			if s := tunnel.Status(); s.Draining != 1 {
				t.Errorf("%d children carry connections beside the newest, want the one that was replaced", s.Draining)
			}
		})
	}
}

// TestReplacedWhileTapIsAsked: the same for a tap.
func TestReplacedWhileTapIsAsked(t *testing.T) {
	t.Parallel()
	for _, leave := range []bool{false, true} {
		t.Run(fmt.Sprint("leave_", leave), func(t *testing.T) {
			t.Parallel()
			tm := quick
			tm.ready, tm.prompt = testwait.Patience, testwait.Patience
			tunnel, _ := runTunnel(t, "taps_for_client", tm)
			waits, pid := mustDial(t, tunnel), tunnel.Status().PID
			say(t, waits)
			testwait.Eventually(t, "the prompt", func() bool { return tunnel.Status().Prompt == tapWords })
			tunnel.Restart("/another/home", leave)
			wantReplaced(t, waits)
			testwait.Eventually(t, "the next child", func() bool { s := tunnel.Status(); return s.State == StateReady && s.PID != pid && s.Prompt == "" })
		})
	}
}

// TestPINAskedWhileReplaced: the same where the child asks after its replacement has
// begun to start.
func TestPINAskedWhileReplaced(t *testing.T) {
	t.Parallel()
	tunnel := pinTunnel(t, "wants_pin_first_run", testwait.Patience)
	works := mustDial(t, tunnel)
	say(t, works)
	testwait.Eventually(t, "the PIN to be typed for the client", typesPIN(t, tunnel))
	hear(t, works)
	tunnel.Restart("/a/home", false)
	waits := mustDial(t, tunnel) // through the old one still
	say(t, waits)
	wantReplaced(t, waits)
	ask(t, works)
	if s := tunnel.Status(); s.State != StateStarting || s.PIN || s.Draining != 1 {
		t.Errorf("while the next child starts: %+v", s)
	}
}

// TestTapAskedWhenTheReplacementFailed: a child that keeps its place because no key was
// touched for the one after it gives the place up once it asks for the key itself, and the
// next client causes a prompt that is seen.
func TestTapAskedWhenTheReplacementFailed(t *testing.T) {
	t.Parallel()
	tm := quick
	tm.prompt = 2 * time.Second
	tunnel, _ := runTunnel(t, "taps_unheard", tm)
	works := mustDial(t, tunnel)
	ask(t, works)
	tunnel.Restart("/a/home", false)
	testwait.Eventually(t, "the next child to give up", func() bool { return errors.Is(tunnel.Status().LastError, ErrFactor) })
	if s := tunnel.Status(); s.State != StateReady {
		t.Errorf("the first child does not serve any longer: %+v", s)
	}
	waits := mustDial(t, tunnel)
	say(t, waits)
	wantReplaced(t, waits)
	testwait.Eventually(t, "the prompt of another child", func() bool {
		tunnel.TryAgain() // each waits for the key in vain
		return tunnel.Status().Prompt == tapWords
	})
	ask(t, works)
}

func TestOnChangeTellsOfEveryState(t *testing.T) {
	t.Parallel()
	var seen []State
	var calls atomic.Int32
	all := make(chan State, 100)
	tunnel, err := NewTunnel(TunnelConfig{
		Path: useFake(t, "serve"), Target: Database{Name: "pg"}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	tunnel.cfg.OnChange = func() {
		calls.Add(1)
		all <- tunnel.Status().State // takes the lock: must not be held here
	}
	tunnel.time = quick
	tunnel.Gate(true)
	runUntilEnd(t, tunnel)
	for s := range all {
		seen = append(seen, s)
		if s == StateReady {
			break
		}
	}
	if want := []State{StateStarting, StateReady}; !slices.Equal(slices.Compact(seen), want) {
		t.Errorf("states seen: %v, want %v", seen, want)
	}
}

func TestManyClientsDuringRestarts(t *testing.T) {
	t.Parallel()
	tunnel, _ := runTunnel(t, "serve", quick)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var failed, served atomic.Int32
	done := make(chan struct{})
	for range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			for ctx.Err() == nil {
				conn, err := tunnel.Dial(context.Background())
				if err != nil {
					failed.Add(1)
					continue
				}
				if _, err = fmt.Fprintln(conn, "hello"); err == nil {
					_, err = bufio.NewReader(conn).ReadString('\n')
				}
				if err != nil {
					failed.Add(1)
				}
				served.Add(1)
				_ = conn.Close()
				wake.Sleep(ctx, 5*time.Millisecond)
			}
		}()
	}
	for range 5 {
		tunnel.Restart("/a/home", false)
		before := served.Load()
		testwait.Eventually(t, "clients to be served", func() bool { return served.Load() >= before+16 || failed.Load() > 0 })
	}
	cancel()
	for range 8 {
		<-done
	}
	if failed.Load() > 0 {
		t.Errorf("%d of %d connections failed during restarts, want none", failed.Load(), served.Load())
	}
}

func TestNewTunnelRefuses(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for name, cfg := range map[string]TunnelConfig{
		"no_path":       {Target: Database{Name: "pg"}, Logger: log},
		"no_target":     {Path: "tsh", Logger: log},
		"no_database":   {Path: "tsh", Target: Database{User: "alice"}, Logger: log},
		"no_kubeconfig": {Path: "tsh", Target: KubeCluster{Name: "prod"}, Logger: log},
		"a_flag":        {Path: "tsh", Target: Database{Name: "--insecure"}, Logger: log},
		"no_logger":     {Path: "tsh", Target: Database{Name: "pg"}},
	} {
		if _, err := NewTunnel(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTSHThatIsGone(t *testing.T) {
	tunnel, err := NewTunnel(TunnelConfig{
		Path: "/nowhere/tsh", Target: Database{Name: "pg"}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	tunnel.time = quick
	tunnel.Gate(true)
	runUntilEnd(t, tunnel)
	var missing *NotFoundError
	if _, err := tunnel.Dial(t.Context()); !errors.As(err, &missing) || missing.Hint() == "" {
		t.Errorf("Dial: %v, want a NotFoundError", err)
	}
}

// ready waits as Dial does and returns nil when Dial would connect at once.
func ready(ctx context.Context, t *Tunnel) error {
	c, err := t.acquire(ctx)
	if err == nil {
		t.release(c, nil)
	}
	return err
}
