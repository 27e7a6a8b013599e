package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"

	"berth/agent/state"
	"berth/agent/tsh"
	"berth/certwatch"
)

// children supervises the tsh processes that carry what native cannot, one
// per tunnel.
type children struct {
	ctx     context.Context // ends with the agent
	tshPath func() string   // the config's tsh path; empty means: look for it
	dir     string          // for the kubeconfigs that tsh writes
	log     *slog.Logger

	mu sync.Mutex
	by map[string]*child
	wg sync.WaitGroup
}

// child is the tsh of one tunnel. It outlives sessions: a new one restarts the
// process behind it, an ended one closes its gate.
type child struct {
	proc   *tsh.Tunnel
	args   childArgs
	fresh  string // fingerprint of the session the process was started with
	cancel context.CancelFunc
	done   chan struct{}
	homes  elevations // private ones, for roles that the tunnel alone has
}

// childArgs are what a process is started with; when they change, it is
// another child.
type childArgs struct {
	path, home, proxy, caFile string
	insecure                  bool
}

func newChildren(ctx context.Context, tshPath func() string, dir string, log *slog.Logger) *children {
	return &children{ctx: ctx, tshPath: tshPath, dir: dir, log: log, by: make(map[string]*child)}
}

// ensure returns the tunnel's child, running with the session of the profile or,
// if there is one, with its elevation.
func (cs *children) ensure(t *tunnel, p *certwatch.Profile, set proxySettings, up *elevation) (*child, error) {
	path, err := tsh.Find(tsh.Options{ConfigPath: cs.tshPath()})
	if err != nil {
		return nil, err
	}
	args := childArgs{path: path, home: p.Home, proxy: p.ProxyAddr, caFile: set.caFile, insecure: set.insecure}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c := cs.by[t.spec.Name]
	if c != nil && c.args != args {
		c.homes.give(up)
		cs.stopLocked(t.spec.Name)
		c = nil
	}
	if c == nil {
		if c, err = cs.startLocked(t, args); err != nil {
			return nil, err
		}
	} else if c.fresh != p.Session.Fingerprint && c.homes.current() == up {
		// tsh would take the new session only when its cert ends.
		c.proc.Restart()
	}
	if was := c.homes.current(); was != up {
		home := args.home
		if up != nil {
			home = up.stage.Dir
		}
		c.homes.take(up)
		c.proc.Rehome(home, was.hasMoreThan(up))
	}
	c.homes.tidy(c.proc.Home)
	c.fresh = p.Session.Fingerprint
	c.proc.Gate(true)
	return c, nil
}

// elevation is the one that the tunnel's child runs with, or is about to; nil
// when it has none.
func (cs *children) elevation(name string) *elevation {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c := cs.by[name]; c != nil {
		return c.homes.current()
	}
	return nil
}

func (cs *children) startLocked(t *tunnel, args childArgs) (*child, error) {
	cfg := tsh.TunnelConfig{
		Path: args.path, Home: args.home, Proxy: args.proxy, Cluster: t.spec.Cluster,
		Insecure: args.insecure, CAFile: args.caFile, Logger: t.log,
		OnChange: func() { t.wake(kickChanged) },
	}
	if t.spec.Kind == state.KindKube {
		cfg.Target = tsh.KubeCluster{Name: t.spec.Resource, Kubeconfig: filepath.Join(cs.dir, t.spec.Name+".tsh")}
		if err := os.MkdirAll(cs.dir, 0o700); err != nil {
			return nil, err
		}
	} else {
		cfg.Target = tsh.Database{Name: t.spec.Resource, User: t.spec.DBUser, DBName: t.spec.DBName}
	}
	proc, err := tsh.NewTunnel(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(cs.ctx)
	c := &child{proc: proc, args: args, cancel: cancel, done: make(chan struct{})}
	c.homes.log = cs.log
	cs.by[t.spec.Name] = c
	cs.wg.Go(func() {
		defer close(c.done)
		defer c.homes.close()
		if err := proc.Run(ctx); err != nil && ctx.Err() == nil {
			cs.log.Error("tsh tunnel ended", "tunnel", t.spec.Name, "err", err)
		}
	})
	return c, nil
}

// gate closes the way into the tunnel's child, if it has one: its session has
// ended, and tsh would accept clients only to drop them, or the cluster refuses
// what it leads to.
func (cs *children) gate(name string) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c := cs.by[name]; c != nil {
		c.proc.Gate(false)
		if c.homes.current() != nil {
			c.homes.close()
			c.proc.Rehome(c.args.home, true)
		}
	}
}

// stop ends the tunnel's child, if it has one, and waits for it.
func (cs *children) stop(name string) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.stopLocked(name)
}

func (cs *children) stopLocked(name string) {
	c := cs.by[name]
	if c == nil {
		return
	}
	delete(cs.by, name)
	c.cancel()
	<-c.done
}

// wait returns when every child has ended; their context must be over.
func (cs *children) wait() { cs.wg.Wait() }

// Dial opens a connection to the child's own local port.
func (c *child) Dial(ctx context.Context) (net.Conn, error) { return c.proc.Dial(ctx) }

// state puts the child's state into the tunnel's words.
func (c *child) state(spec state.TunnelSpec) (state.TunnelState, *state.Problem) {
	st := c.proc.Status()
	switch {
	case st.Prompt != "":
		return state.TunnelError, &state.Problem{
			Code: state.CodeMFARequired, Title: "tsh waits for you", Since: st.Since.UTC(),
			Text:   fmt.Sprintf("The tsh process behind tunnel %q asks: %s", spec.Name, st.Prompt),
			Action: "berth tunnel restart " + spec.Name,
		}
	case st.State == tsh.StateReady:
		return state.TunnelReady, nil
	case st.State == tsh.StateFailing:
		return state.TunnelError, &state.Problem{
			Code: state.CodeTSHFailed, Title: "tsh keeps failing", Since: st.Since.UTC(),
			Text:   fmt.Sprintf("The tsh process behind tunnel %q fails: %v.", spec.Name, st.LastError),
			Action: "berth tunnel restart " + spec.Name,
		}
	default:
		return state.TunnelConnecting, nil
	}
}

// identity is the child and the session it runs with: what its connections
// stand for.
func (c *child) identity() any {
	return struct {
		c       *child
		session string
		up      *elevation
	}{c, c.fresh, c.homes.current()}
}
