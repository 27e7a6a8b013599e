//go:build unix

package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/atomicfile"
	"berth/internal/paths"
	"berth/internal/simcluster"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

const (
	// stepEnv is the number of the change of the disk before which a child is killed;
	// stepsEnv names a file that gets what it changes.
	stepEnv  = "BERTH_TEST_KILL_BEFORE"
	stepsEnv = "BERTH_TEST_STEPS"
	// everyEnv has TestKilledBeforeEveryChange leave none out.
	everyEnv = "BERTH_TEST_EVERY_CHANGE"
)

// killBefore has this process killed before a change of the disk, as by kill -9.
func killBefore(step, steps string) error {
	if step == "" {
		return nil
	}
	last, err := strconv.ParseInt(step, 10, 64)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(steps, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	var n atomic.Int64
	atomicfile.Before = func(what string) {
		if n.Add(1) == last {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		_, _ = log.WriteString(what + "\n")
	}
	return nil
}

// day runs an agent as a child that is killed before its change number step, and
// does with it what makes an agent write: a login, and tunnels that are added,
// stopped, started and removed. It returns the changes that were made, and whether
// the agent lived to its end.
func (e *env) day(step int) (changes []string, lived bool) {
	e.t.Helper()
	steps := filepath.Join(e.t.TempDir(), "steps")
	child := exec.CommandContext(e.t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childEnv+"=1", paths.HomeVar+"="+e.Dir, stepEnv+"="+strconv.Itoa(step), stepsEnv+"="+steps)
	if err := child.Start(); err != nil {
		e.t.Fatal(err)
	}
	end := make(chan error, 1)
	go func() { end <- child.Wait() }()
	c := client.Dial(e.Paths.Socket)
	defer func() { _ = c.Close() }()
	ctx := e.t.Context()
	alive := testwait.Until(func() bool { _, err := c.Info(ctx); return err == nil || len(end) > 0 })
	acts := []func() error{
		func() error {
			_, err := c.AddTunnel(ctx, state.TunnelSpec{Name: "more", Kind: state.KindDB, Cluster: e.Sim.Name(), Resource: "pg"})
			return err
		},
		func() error {
			return c.Login(ctx, client.LoginStart{Proxy: e.Sim.ProxyAddr(), User: "alice", Renew: true},
				func(ev client.LoginEvent, answer func(string)) error {
					if ev.Kind == state.LoginPassword {
						answer("alice-password")
					}
					return nil
				})
		},
		func() error { return c.StopTunnel(ctx, "pg") },
		func() error { return c.StartTunnel(ctx, "pg") },
		func() error { return c.RemoveTunnel(ctx, "more") },
		func() error { return c.Shutdown(ctx) },
	}
	for i, act := range acts {
		if err := act(); err != nil && step == 0 {
			e.t.Fatalf("act %d: %v (alive %v)", i, err, alive)
		}
	}
	err := <-end
	text, _ := os.ReadFile(steps) // there is none when the first was the last
	return strings.Split(strings.TrimSpace(string(text)), "\n"), err == nil
}

// intact checks that an agent finds everything as it was.
func (e *env) intact(port int) {
	e.t.Helper()
	for _, note := range []string{e.Paths.Crashes(), e.Paths.LockPID()} { // so many kills would be a crash loop
		if err := os.Remove(note); err != nil && !os.IsNotExist(err) {
			e.t.Fatal(err)
		}
	}
	stop := e.start()
	defer stop()
	s := e.Snapshot()
	if len(s.Problems) != 0 {
		e.t.Errorf("problems: %+v", s.Problems)
	}
	is := e.spec("pg")
	if is.Port != port {
		e.t.Errorf("the port is %d, want %d", is.Port, port)
	}
	if err := e.Client().StartTunnel(e.t.Context(), "pg"); err != nil { // it may have been stopped when the kill came
		e.t.Error(err)
	}
	e.AwaitState("pg", state.TunnelReady)
	e.mustPG(port)
	_ = e.Client().RemoveTunnel(e.t.Context(), "more") // it may not be there
}

// TestKilledBeforeEveryChange kills an agent before each change that it makes to the
// disk: the next one finds config, saved state and session whole, and serves on the
// same port.
func TestKilledBeforeEveryChange(t *testing.T) {
	testneeds.Time(t, "an agent is killed before each of its changes")
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.withTSH()
	e.Login()
	item, port := e.pgTunnel("pg")
	e.config(item)
	changes, lived := e.day(0)
	if !lived || len(changes) < 20 {
		t.Fatalf("without a kill the agent lived: %v, and made %d changes: %q", lived, len(changes), changes)
	}
	e.intact(port)
	every := 1
	if os.Getenv(everyEnv) == "" {
		every = len(changes)/6 + 1 // the rest costs a second each
	}
	killed := 0
	for n := 1; n <= len(changes); n += every {
		if _, lived := e.day(n); !lived {
			killed++
		}
		e.intact(port)
		if t.Failed() {
			t.Fatalf("killed before change %d, which was first: %s", n, changes[n-1])
		}
	}
	t.Log(fmt.Sprintf("killed %d times in %d changes:\n", killed, len(changes)) + strings.Join(changes, "\n"))
	if killed == 0 {
		t.Error("no agent was killed")
	}
}
