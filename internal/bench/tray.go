package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"berth/agent/ipc"
	"berth/agent/state"
	"berth/internal/paths"
)

const (
	trayTunnels = 20
	stormPause  = time.Millisecond // between two snapshots
)

// tray measures the tray on a message bus without a panel: with an agent whose
// snapshot stays the same, and with a thousand changes a second.
func (b *bench) tray(ctx context.Context) error {
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		b.say("  skipped: the tray wants a message bus, and there is no dbus-daemon")
		return nil
	}
	idle, err := collect(b.times(3, 1), func(int) (unused, error) { return b.trayRound(ctx, false) })
	if err != nil {
		return err
	}
	size, usage := idleRows(fmt.Sprintf("idle tray, tunnels: %d", trayTunnels), idle)
	size.budget, size.verdict = "≤ 30 MB", within(size.figure, 30e6)
	storm, err := collect(b.times(3, 1), func(int) (unused, error) { return b.trayRound(ctx, true) })
	if err != nil {
		return err
	}
	_, busy := idleRows("tray, 1000 snapshots/s", storm)
	busy.budget, busy.verdict = "≤ 5 % of a core", within(busy.figure, 0.05)
	b.add(size, usage, busy)
	return nil
}

// trayRound measures one tray.
func (b *bench) trayRound(ctx context.Context, storm bool) (got unused, err error) {
	b.agents++
	dir := filepath.Join(b.dir, fmt.Sprintf("tray-%d", b.agents))
	p, err := paths.Resolve(func(key string) string { return map[string]string{paths.HomeVar: dir}[key] })
	if err != nil {
		return got, err
	}
	if err := p.MakeDirs(); err != nil {
		return got, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	ln, err := ipc.Listen(p.Socket)
	if err != nil {
		return got, err
	}
	agent := newChatter()
	parts.Go(func() {
		_ = ipc.NewServer(ipc.ServerConfig{
			Backend: ipc.Backend{Agent: agent, Tunnels: agent, Logins: agent, Renewals: agent, Kube: agent},
			Logger:  slog.New(slog.DiscardHandler), Grace: time.Millisecond,
		}).Run(ctx, ln)
	})
	bus, err := startBus(ctx, dir)
	if err != nil {
		return got, err
	}
	cmd := exec.CommandContext(ctx, b.binary, "tray", "--quiet")
	cmd.Env = append(os.Environ(), paths.HomeVar+"="+dir, "DBUS_SESSION_BUS_ADDRESS="+bus)
	if err := cmd.Start(); err != nil {
		return got, err
	}
	defer func() {
		cancel()
		_ = cmd.Wait()
		b.load.addChild(cmd.ProcessState)
	}()
	if storm {
		parts.Go(func() { agent.chat(ctx) })
	}
	select {
	case <-agent.followed:
	case <-time.After(startWait):
		said, _ := os.ReadFile(filepath.Join(filepath.Dir(p.LogFile), "tray.log"))
		return got, fmt.Errorf("the tray does not follow the agent, and says: %s", said)
	}
	if storm {
		return b.watch(ctx, cmd.Process.Pid, 5*time.Second)
	}
	return b.watch(ctx, cmd.Process.Pid, b.span(65*time.Second, 20*time.Second)) // it gives back what the start needed within a minute
}

// startBus starts a message bus with nothing on it, which ends with ctx.
func startBus(ctx context.Context, dir string) (address string, err error) {
	address = "unix:path=" + filepath.Join(dir, "bus")
	conf := filepath.Join(dir, "bus.conf")
	text := fmt.Sprintf(`<busconfig><type>session</type><listen>%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`, address)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "dbus-daemon", "--nofork", "--nopidfile", "--print-address=1", "--config-file="+conf)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	line := bufio.NewReader(out)
	if _, err := line.ReadString('\n'); err != nil {
		return "", fmt.Errorf("start a message bus: %w", err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, line)
		_ = cmd.Wait()
	}()
	return address, nil
}

// chatter is an agent with tunnels whose connections come and go.
type chatter struct {
	ipc.AgentBackend // nothing else is asked of it
	ipc.TunnelBackend
	ipc.LoginBackend
	ipc.RenewalBackend
	ipc.KubeBackend

	wake     chan struct{}
	followed chan struct{} // closed when a front end follows
	once     sync.Once

	mu  sync.Mutex
	now state.Snapshot // guarded by mu
}

func newChatter() *chatter {
	until := time.Now().Add(8 * time.Hour)
	c := &chatter{wake: make(chan struct{}, 1), followed: make(chan struct{})}
	c.now.Agent = state.Agent{Version: "bench", PID: self()}
	c.now.Profiles = []state.Profile{{
		Proxy: "proxy.example.com:443", Cluster: "example.com", User: user, State: state.ProfileValid, ValidUntil: &until,
	}}
	for i := range trayTunnels {
		c.now.Tunnels = append(c.now.Tunnels, state.Tunnel{
			TunnelSpec: state.TunnelSpec{
				Name: databaseName(i), Kind: state.KindDB, Cluster: "example.com", Resource: databaseName(i),
			},
			Profile: "proxy.example.com:443", Protocol: protocol, Address: "127.0.0.1:15432", State: state.TunnelReady,
		})
	}
	return c
}

// chat says something new every millisecond.
func (c *chatter) chat(ctx context.Context) {
	for n := int64(0); pause(ctx, stormPause) == nil; n++ {
		c.mu.Lock()
		tunnels := append([]state.Tunnel(nil), c.now.Tunnels...)
		tunnels[n%trayTunnels].Connections = n
		c.now.Tunnels = tunnels
		c.mu.Unlock()
		select {
		case c.wake <- struct{}{}:
		default: // it reads the newest
		}
	}
}

// Snapshot is asked for by the server, and so is Subscribe.
func (c *chatter) Snapshot() *state.Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return new(c.now)
}

// Subscribe serves one follower: the tray.
func (c *chatter) Subscribe() (wake <-chan struct{}, cancel func()) {
	c.once.Do(func() { close(c.followed) })
	return c.wake, func() {}
}

// ListResources offers nothing.
func (c *chatter) ListResources(context.Context, ipc.ResourceQuery) ([]ipc.Resource, []string, error) {
	return nil, nil, nil
}
