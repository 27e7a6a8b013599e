//go:build e2e && linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/agent/state"
)

// TestEngineTSH carries a tunnel through a real "tsh proxy db" child.
func TestEngineTSH(t *testing.T) {
	p := newPerson(t, roleDB)
	p.login()
	p.startAgent()
	begin := time.Now()
	addr := p.addTunnel("viatsh", "--engine", "tsh")
	p.awaitReady("viatsh")
	t.Logf("added and ready after %s", time.Since(begin).Round(time.Millisecond))
	link := p.berth("tunnel", "url", "viatsh")
	if r := p.psql(link, "select current_user"); r.code != 0 || strings.TrimSpace(r.out) != "app" {
		t.Fatalf("psql prints %q (exit code %d)\n%s", r.out, r.code, r.err)
	}
	if tun := p.tunnel("viatsh"); tun.Engine != state.EngineTSH || tun.EngineReason == "" {
		t.Errorf("status names the engine %s, because %q", tun.Engine, tun.EngineReason)
	}

	k := knock(t, addr)
	open := openSession(t, link)
	children := childrenOf(t, p.agent.pid())
	if len(children) != 1 {
		t.Errorf("the agent has %d children, want one tsh", len(children))
	}
	w := p.watch()
	w.await(time.Time{}, 5*time.Second, "viatsh", "ready", ready)
	begin = time.Now()
	p.logout()
	w.await(begin, 5*time.Second, "viatsh", "waiting for a login", waitsForLogin)
	held := sendOff(t.Context(), link, "select current_user::text")
	mustHang(t, held, time.Second)
	p.login()
	written := p.lastWritten()
	through := arrive(t, held, 20*time.Second, "app")
	t.Logf("login written -> the held client's query answered, through a new tsh: %s", through.Sub(written).Round(time.Millisecond))
	if err := open.conn.Ping(t.Context()); err != nil {
		t.Logf("with engine tsh an open connection ends with the login it was made with: %v", err)
	}
	k.check(t)

	children = childrenOf(t, p.agent.pid())
	if err := p.agent.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.agent.done
	if len(children) == 0 {
		t.Error("the agent has no tsh child to leave behind")
	}
	for _, pid := range children {
		if err := until(t.Context(), 5*time.Second, 20*time.Millisecond, func() error { return gone(pid) }); err != nil {
			t.Errorf("kill -9 of the agent left tsh behind: %v", err)
			_ = syscall.Kill(pid, syscall.SIGKILL) // tidy up after the failure
		}
	}
	// What a kill -9 leaves is readable: the next agent has the same tunnel.
	p.runAgent()
	p.awaitReady("viatsh")
	if got, err := query(t.Context(), link, "select current_user::text"); err != nil || got != "app" {
		t.Errorf("after a kill -9 and a new start: %q, %v", got, err)
	}
}

// childrenOf lists the child processes that are alive.
func childrenOf(t *testing.T, parent int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, path := range stats {
		pid, ppid, state, err := procStat(path)
		if err == nil && ppid == parent && state != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// gone returns nil if there is no such process any more.
func gone(pid int) error {
	_, _, state, err := procStat(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil || state == "Z" {
		return nil
	}
	return fmt.Errorf("process %d is in state %s", pid, state)
}

func procStat(path string) (pid, ppid int, state string, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, "", err
	}
	// The name in brackets may hold anything; after it come state and parent.
	text := string(b)
	fields := strings.Fields(text[strings.LastIndex(text, ")")+1:])
	if pid, err = strconv.Atoi(strings.Fields(text)[0]); err != nil || len(fields) < 2 {
		return 0, 0, "", fmt.Errorf("%s is not understood: %w", path, err)
	}
	ppid, err = strconv.Atoi(fields[1])
	return pid, ppid, fields[0], err
}
