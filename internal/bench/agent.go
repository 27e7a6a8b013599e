package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/paths"
	"berth/proxies"
)

// agent is a running "berth agent run".
type agent struct {
	cmd        *exec.Cmd
	load       *loadMeter
	env        []string
	socket     string
	ports      []int
	tunnels    int    // how many it has; they may share ports
	logged     string // the file its standard error goes to
	config     string
	configFile string
	lastTunnel string // the end of config
	began      time.Time
	bound      time.Duration // from began until the ports were bound
	exited     chan error
}

// startAgent starts an agent with n tunnels to the databases, in a
// BERTH_HOME of its own, and waits until their ports are bound.
func (w *world) startAgent(ctx context.Context, n int) (*agent, error) {
	w.agents++
	dir := filepath.Join(w.dir, strconv.Itoa(w.agents))
	ports, err := freePorts(n)
	if err != nil {
		return nil, err
	}
	var tunnels strings.Builder
	last := ""
	for i, port := range ports {
		last = fmt.Sprintf("  - {name: %s, kind: db, cluster: %s, resource: %s, db_user: %s, db_name: %s, port: %d}\n",
			databaseName(i), w.sim.Name(), databaseName(i%most), user, dbName, port)
		tunnels.WriteString(last)
	}
	config := fmt.Sprintf("version: 1\nhomes: [%q]\nprofiles:\n  - {proxy: %q, ca_file: %q}\ntunnels:\n%s",
		w.home, w.sim.ProxyAddr(), w.caFile, &tunnels)
	a, err := launch(ctx, w.binary, dir, config, ports, w.load)
	if err == nil {
		a.lastTunnel = last
	}
	return a, err
}

// launch runs berth as an agent under dir and waits until its ports are bound.
func launch(ctx context.Context, berth, dir, config string, ports []int, load *loadMeter) (*agent, error) {
	p, err := paths.Resolve(func(key string) string { return map[string]string{paths.HomeVar: dir}[key] })
	if err != nil {
		return nil, err
	}
	if err := p.MakeDirs(); err != nil {
		return nil, err
	}
	if err := os.WriteFile(p.Config, []byte(config), 0o600); err != nil {
		return nil, err
	}
	a := &agent{
		load: load, socket: p.Socket, ports: ports, tunnels: len(ports), exited: make(chan error, 1), logged: filepath.Join(dir, "stderr.log"),
		env: append(os.Environ(), paths.HomeVar+"="+dir), config: config, configFile: p.Config,
	}
	ready, err := listenReady(dir)
	if err != nil {
		return nil, err
	}
	defer ready.close()
	logTo, err := os.Create(a.logged)
	if err != nil {
		return nil, err
	}
	defer logTo.Close()

	a.cmd = exec.CommandContext(ctx, berth, "agent", "run", "--quiet", "--grace=0s")
	a.cmd.Env = append(a.env, ready.env()...)
	a.cmd.Stderr = logTo
	a.cmd.Cancel = func() error { return interrupt(a.cmd.Process) }
	a.cmd.WaitDelay = 5 * time.Second
	a.began = time.Now()
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { a.exited <- a.cmd.Wait() }()
	if err := ready.await(ctx, ports, a.exited); err != nil {
		return nil, errors.Join(fmt.Errorf("start agent: %w: %s", err, a.lastWords()), a.stop())
	}
	a.bound = time.Since(a.began)
	return a, nil
}

// lastWords returns the end of a failed agent's log.
func (a *agent) lastWords() string {
	said, err := os.ReadFile(a.logged)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(said))
}

func (a *agent) addr(i int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(a.ports[i])) }

func (a *agent) pid() int { return a.cmd.Process.Pid }

// readyAgent is startAgent, and returns when every tunnel is ready.
func (w *world) readyAgent(ctx context.Context, n int) (*agent, error) {
	a, err := w.startAgent(ctx, n)
	if err != nil {
		return nil, err
	}
	if err := a.awaitTunnels(ctx); err != nil {
		return nil, errors.Join(err, a.stop())
	}
	return a, nil
}

// awaitTunnels waits until every tunnel is ready.
func (a *agent) awaitTunnels(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	c := client.Dial(a.socket)
	defer c.Close()
	var last state.Snapshot
	for s, err := range c.Follow(ctx) {
		if err != nil {
			continue // the socket is not there yet
		}
		last = s
		ready := 0
		for _, t := range s.Tunnels {
			if t.State == state.TunnelReady {
				ready++
			}
		}
		if ready == a.tunnels {
			return nil
		}
	}
	for _, t := range last.Tunnels {
		if t.Problem != nil {
			return fmt.Errorf("tunnel %s is %s: %s", t.Name, t.State, t.Problem.Text)
		}
	}
	return fmt.Errorf("the tunnels are not ready: %w", context.Cause(ctx))
}

// connections is how many the agent says are open through its first tunnel.
func (a *agent) connections(ctx context.Context) (int64, error) {
	c := client.Dial(a.socket)
	defer c.Close()
	s, err := c.Snapshot(ctx)
	if err != nil {
		return 0, err
	}
	if len(s.Tunnels) == 0 {
		return 0, errors.New("the agent has no tunnels")
	}
	return s.Tunnels[0].Connections, nil
}

// stop ends the agent.
func (a *agent) stop() error {
	if a.cmd.ProcessState == nil {
		if err := interrupt(a.cmd.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	var err error
	select {
	case err = <-a.exited:
	case <-time.After(startWait):
		err = errors.Join(errors.New("the agent did not stop"), a.cmd.Process.Kill(), <-a.exited)
	}
	a.exited <- nil // for a second stop
	a.load.addChild(a.cmd.ProcessState)
	if runtime.GOOS == "windows" {
		return nil // it was killed
	}
	return err
}

// interrupt asks a process to end. Windows has no way to ask.
func interrupt(p *os.Process) error {
	if runtime.GOOS == "windows" {
		return p.Kill()
	}
	return p.Signal(os.Interrupt)
}

// Free ports are looked for below the ephemeral ranges, so that no outgoing
// connection takes one between here and its use; nextPort is where to look on.
const firstPort, lastPort = 15000, 30000

var nextPort = firstPort + os.Getpid()%8000

func freePorts(n int) ([]int, error) {
	var ports []int
	for range lastPort - firstPort {
		if !proxies.PortBusy(nextPort) {
			ports = append(ports, nextPort)
		}
		if nextPort++; nextPort == lastPort { // those of the first agents are free again
			nextPort = firstPort
		}
		if len(ports) == n {
			return ports, nil
		}
	}
	return nil, errors.New("no free ports below the ephemeral range")
}
