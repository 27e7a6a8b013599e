//go:build e2e && linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/agent/state"
)

// berthEnv is the environment berth runs in. It has no SSL_CERT_FILE: the
// proxy's CA is named in the config alone.
func (p *person) berthEnv() []string {
	return append(environment("HOME="+p.dir, "BERTH_HOME="+p.berthHome(), "TELEPORT_HOME="+p.tshHome,
		"PATH="+lab.bin+string(os.PathListSeparator)+os.Getenv("PATH")), p.more...)
}

// startAgent starts "berth agent run" and waits until it answers. Before, it
// writes a config that names the proxy's CA; more is added to it.
func (p *person) startAgent(more ...string) {
	p.t.Helper()
	text := fmt.Sprintf("version: 1\nprofiles:\n  - {proxy: %q, ca_file: %q}\n", p.proxy(), lab.webCA.file)
	text += strings.Join(more, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(p.berthHome(), "config.yaml"), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.runAgent()
	t := p.t
	t.Cleanup(func() {
		begin := time.Now()
		if err := p.agent.stop(syscall.SIGTERM, 15*time.Second); err != nil {
			t.Error(err)
		}
		if p.agent.err != nil && !t.Failed() {
			t.Errorf("stopped agent: %v after %s", p.agent.err, time.Since(begin))
		}
		if t.Failed() {
			t.Logf("the agent's log ends:\n%s", p.agent.tail())
		}
	})
}

func (p *person) runAgent() {
	p.t.Helper()
	cmd := exec.Command(lab.berth, "agent", "run", "--log-level", "debug")
	cmd.Env = p.berthEnv()
	var err error
	if p.agent, err = startProc("berth agent", filepath.Join(p.dir, "agent.log"), cmd); err != nil {
		p.t.Fatal(err)
	}
	err = until(p.t.Context(), 10*time.Second, 20*time.Millisecond, func() error {
		if !p.agent.running() {
			return fmt.Errorf("it ended: %w", p.agent.err)
		}
		r, err := run(p.t.Context(), p.berthEnv(), "", lab.berth, "status", "--json")
		if err == nil && r.code != 0 {
			err = errors.New(r.err)
		}
		return err
	})
	if err != nil {
		p.t.Fatalf("the agent does not come up: %v\n%s", err, p.agent.tail())
	}
}

// berth runs a command that has to exit 0 and returns what it prints.
func (p *person) berth(args ...string) string {
	p.t.Helper()
	out, err := mustRun(p.t.Context(), p.berthEnv(), "", lab.berth, args...)
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimRight(out, "\n")
}

// berthLogin runs "berth login" on a terminal and types the password.
func (p *person) berthLogin(args ...string) (screen string) {
	p.t.Helper()
	screen, code := p.tryLogin(args...)
	if code != 0 {
		p.t.Fatalf("berth login %q: exit code %d\n%s", args, code, screen)
	}
	return screen
}

// tryLogin is berthLogin for one that may fail.
func (p *person) tryLogin(args ...string) (screen string, code int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, lab.berth, append([]string{"login", p.at.addr(), "--user", p.name}, args...)...)
	cmd.Env = p.berthEnv()
	screen, code, err := onTerminal(ctx, cmd, passwordPrompt, p.password)
	if err != nil {
		p.t.Fatalf("berth login %q: exit code %d, %v\n%s", args, code, err, screen)
	}
	return screen, code
}

// tryBerth runs a command that may fail.
func (p *person) tryBerth(args ...string) result {
	p.t.Helper()
	r, err := run(p.t.Context(), p.berthEnv(), "", lab.berth, args...)
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// addTunnel adds a tunnel to the database pg for the user app and returns its
// address. It may still be on its way to being ready.
func (p *person) addTunnel(name string, more ...string) (addr string) {
	p.t.Helper()
	args := []string{"tunnel", "add", "db", name, "--json"}
	for _, flag := range [][2]string{{"--resource", "pg"}, {"--db-user", "app"}, {"--db-name", "appdb"}} {
		if !slices.Contains(more, flag[0]) {
			args = append(args, flag[0], flag[1])
		}
	}
	var added state.Tunnel
	if err := json.Unmarshal([]byte(p.berth(append(args, more...)...)), &added); err != nil {
		p.t.Fatal(err)
	}
	return added.Address
}

// awaitReady waits until the tunnel is ready, by the command line's own means.
func (p *person) awaitReady(name string) {
	p.t.Helper()
	p.berth("status", "--wait", "--timeout", "20s", name)
}

// snapshot is "berth status --json".
func (p *person) snapshot() state.Snapshot {
	p.t.Helper()
	return decodeSnapshot(p.t, []byte(p.berth("status", "--json")))
}

func decodeSnapshot(t *testing.T, text []byte) state.Snapshot {
	t.Helper()
	var s state.Snapshot
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		t.Fatalf("berth status --json: %v\n%s", err, text)
	}
	return s
}

// tunnel is the named tunnel's part of the snapshot.
func (p *person) tunnel(name string) state.Tunnel {
	p.t.Helper()
	tun, ok := findTunnel(p.snapshot(), name)
	if !ok {
		p.t.Fatalf("status names no tunnel %q", name)
	}
	return tun
}

func findTunnel(s state.Snapshot, name string) (state.Tunnel, bool) {
	i := slices.IndexFunc(s.Tunnels, func(t state.Tunnel) bool { return t.Name == name })
	if i < 0 {
		return state.Tunnel{}, false
	}
	return s.Tunnels[i], true
}

// psql runs one statement through psql, as a person would paste it.
func (p *person) psql(url, sql string) result {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 90*time.Second)
	defer cancel()
	r, err := run(ctx, environment("HOME="+p.dir), "", filepath.Join(lab.postgres.bin, "psql"), "-XAtq", url, "-c", sql)
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// statusWatch follows "berth status --watch --json".
type statusWatch struct {
	p    *person
	proc *exec.Cmd

	mu   sync.Mutex
	seen []seenSnapshot
	news chan struct{} // capacity 1
}

type seenSnapshot struct {
	at time.Time
	state.Snapshot
}

func (p *person) watch() *statusWatch {
	p.t.Helper()
	w := &statusWatch{p: p, news: make(chan struct{}, 1)}
	w.proc = exec.Command(lab.berth, "status", "--watch", "--json")
	w.proc.Env = p.berthEnv()
	out, err := w.proc.StdoutPipe()
	if err == nil {
		err = w.proc.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		dec := json.NewDecoder(out)
		for {
			var s seenSnapshot
			if dec.Decode(&s.Snapshot) != nil {
				return // the watch has ended
			}
			s.at = time.Now()
			w.mu.Lock()
			w.seen = append(w.seen, s)
			w.mu.Unlock()
			select {
			case w.news <- struct{}{}:
			default:
			}
		}
	}()
	p.t.Cleanup(func() {
		_ = w.proc.Process.Kill() // it may have ended with the agent
		<-ended
		_ = w.proc.Wait() // killed
	})
	return w
}

// await waits for a tunnel that fulfils cond, among what has been seen since
// the given time, and returns when it was first seen.
func (w *statusWatch) await(since time.Time, limit time.Duration, name string, what string, cond func(state.Tunnel) bool) time.Time {
	w.p.t.Helper()
	deadline := time.After(limit)
	next := 0
	var last state.Tunnel
	for {
		w.mu.Lock()
		fresh := w.seen[next:]
		next = len(w.seen)
		w.mu.Unlock()
		for _, s := range fresh {
			tun, ok := findTunnel(s.Snapshot, name)
			if !ok {
				continue
			}
			last = tun
			if !s.at.Before(since) && cond(tun) {
				return s.at
			}
		}
		select {
		case <-w.news:
		case <-deadline:
			w.p.t.Fatalf("tunnel %s was not %s within %s; it is %s, cert until %v, problem %+v",
				name, what, limit, last.State, last.CertValidUntil, last.Problem)
		}
	}
}

func ready(t state.Tunnel) bool { return t.State == state.TunnelReady }

func waitsForLogin(t state.Tunnel) bool { return t.State == state.TunnelWaitingForLogin }

// newCert holds for a tunnel that is ready with another cert than before.
func newCert(before *time.Time) func(state.Tunnel) bool {
	return func(t state.Tunnel) bool {
		return ready(t) && t.CertValidUntil != nil && (before == nil || !t.CertValidUntil.Equal(*before))
	}
}
