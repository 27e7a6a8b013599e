package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"berth/agent/config"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/certwatch"
	"berth/proxies"
)

// launcher starts the tsh processes that carry what berth itself cannot.
type launcher struct {
	ctx     context.Context // ends with the agent
	tshPath func() string   // the config's tsh path; empty means: look for it
	dir     string          // for the kubeconfigs that tsh writes
	log     *slog.Logger
	running sync.WaitGroup
}

// child is the tsh of one tunnel. It outlives sessions: a new one restarts the
// process behind it, an expired one closes its gate. Only the tunnel's own
// resolutions change it; whoever takes it from the tunnel may stop it.
type child struct {
	proc   *tsh.Tunnel
	args   childArgs
	fresh  string             // fingerprint of the session the process was started with, or is about to be
	holder certwatch.Identity // of that session
	cancel context.CancelFunc
	done   chan struct{}
	homes  elevations // private ones, for roles that the tunnel alone has
}

// childArgs are the arguments of a process; when they change, it is
// another child.
type childArgs struct {
	path, home, proxy, caFile string
	insecure                  bool
	keyed                     bool // tsh asks for a security key
}

// ensure returns the tunnel's child, running with the session of the profile or,
// if there is one, with its elevation. Another tunnel's child does not hold it
// up, however long that takes to end.
func (l *launcher) ensure(t *tunnel, p *certwatch.Profile, set config.ProxyTrust, up *elevation, keyed bool) (*child, error) {
	path, err := tsh.Find(tsh.Options{ConfigPath: l.tshPath()})
	if err != nil {
		return nil, err
	}
	args := childArgs{path: path, home: p.Home, proxy: p.ProxyAddr, caFile: set.CAFile, insecure: set.Insecure, keyed: keyed}
	c := t.currentChild()
	if c != nil && c.args != args {
		c.homes.give(up)
		t.stopChild()
		c = nil
	}
	is := p.Session
	if c == nil {
		if c, err = l.start(t, args); err != nil {
			return nil, err
		}
		c.fresh, c.holder = is.Fingerprint, is.Identity
	}
	// tsh would take the new session only when its cert ends.
	if was := c.homes.current(); was != up || c.fresh != is.Fingerprint {
		home := args.home
		if up != nil {
			home = up.stage.Dir
		}
		if was != up {
			c.homes.take(up)
		}
		c.proc.Restart(home, was.hasMoreThan(up) || mayLess(is.Identity, c.holder))
		c.fresh, c.holder = is.Fingerprint, is.Identity
	}
	c.homes.tidy(c.proc.Home)
	c.proc.Gate(true)
	return c, nil
}

// mayLess reports whether is lacks a role or access request that was had, or is another
// user's.
func mayLess(is, was certwatch.Identity) bool {
	return is.User != was.User || lacks(is.Roles, was.Roles) || lacks(is.ActiveRequests, was.ActiveRequests)
}

// lacks reports whether is lacks one of those in was.
func lacks(is, was []string) bool {
	return slices.ContainsFunc(was, func(had string) bool { return !slices.Contains(is, had) })
}

func (l *launcher) start(t *tunnel, args childArgs) (*child, error) {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil, err
	}
	proc, err := tsh.NewTunnel(tsh.TunnelConfig{
		Path: args.path, Home: args.home, Proxy: args.proxy, Cluster: t.spec.Cluster,
		Target: kinds[t.spec.Kind].target(t.spec, l.dir), Insecure: args.insecure, CAFile: args.caFile, Terminal: args.keyed, Logger: t.log,
		OnChange: func() {
			t.wake(Changed)
			t.changed.Wake() // clients may wait for it to start
		},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(l.ctx)
	c := &child{proc: proc, args: args, cancel: cancel, done: make(chan struct{})}
	c.homes.log = l.log
	t.takeChild(c)
	l.running.Go(func() {
		defer close(c.done)
		defer c.homes.close()
		if err := proc.Run(ctx); err != nil && ctx.Err() == nil {
			l.log.Error("tsh tunnel ended", "tunnel", t.spec.Name, "err", err)
		}
	})
	return c, nil
}

// gate closes the way into the child: its session has expired, and tsh would
// accept clients only to drop them, or the cluster refuses what it leads to. A
// nil child has no gate.
func (c *child) gate() {
	if c == nil {
		return
	}
	c.proc.Gate(false)
	raised := c.homes.current() != nil
	c.homes.close() // also where the process that was to leave them never came
	if raised {
		c.proc.Restart(c.args.home, true)
	}
}

// stop ends the child and waits for its process.
func (c *child) stop() {
	c.cancel()
	<-c.done
}

// state puts the child's state into the tunnel's words. login is the command that
// asks for what is to be typed.
func (c *child) state(spec state.TunnelSpec, login string) (state.TunnelState, *state.Problem) {
	return c.stateOf(c.proc.Status(), spec, login)
}

func (c *child) stateOf(st tsh.Status, spec state.TunnelSpec, login string) (state.TunnelState, *state.Problem) {
	switch {
	case st.PIN:
		return state.TunnelWaitingForLogin, &state.Problem{
			Code: state.CodePINNeeded, Title: "PIN needed", Since: st.Since.UTC(),
			Text:   fmt.Sprintf("The security key for tunnel %q wants its PIN.", spec.Name),
			Action: login,
		}
	case st.Prompt != "":
		return state.TunnelWaitingForLogin, &state.Problem{
			Code: state.CodeTapNeeded, Title: "Touch your security key", Since: st.Since.UTC(),
			Text:   fmt.Sprintf("The tsh process behind tunnel %q asks: %s", spec.Name, st.Prompt),
			Action: "touch the key",
		}
	case st.State == tsh.StateReady:
		return state.TunnelReady, nil
	case lacksFactor(st):
		return state.TunnelError, &state.Problem{
			Code: state.CodeMFARequired, Title: "No second factor", Since: st.Since.UTC(),
			Text:   fmt.Sprintf("The cluster asks for a second factor for tunnel %q, and tsh could not show one: %v.", spec.Name, st.LastError),
			Action: "connect again, with the security key at hand",
		}
	case st.State == tsh.StateFailing, st.State == tsh.StateStarting && st.LastError != nil && !c.args.keyed: // it is tried again
		return state.TunnelError, &state.Problem{
			Code: state.CodeTSHFailed, Title: "tsh keeps failing", Since: st.Since.UTC(),
			Text:   fmt.Sprintf("The tsh process behind tunnel %q fails: %v.", spec.Name, st.LastError),
			Action: "berth tunnel restart " + spec.Name,
		}
	default:
		return state.TunnelConnecting, nil
	}
}

// waiting is how many clients wait: those that berth holds, and those that wait in the
// child for the PIN of a security key. The child may have connections without a client,
// such as those that a Kubernetes tunnel keeps.
func waiting(px proxies.Status, c *child) int {
	n := px.Waiting
	if c != nil {
		if st := c.proc.Status(); st.PIN {
			n += min(st.Waiting, max(0, px.Connections-px.Waiting))
		}
	}
	return n
}

// lacksFactor reports whether a child failed because its second factor was missing.
func lacksFactor(st tsh.Status) bool {
	return st.State == tsh.StateFailing && errors.Is(st.LastError, tsh.ErrFactor)
}

// identity names the child, the process that takes connections, and the session it runs
// with or is about to: what its connections stand for. It is comparable. While a process is
// replaced, the old one takes connections that should not be used once the new one is ready.
func (c *child) identity() any {
	return struct {
		c       *child
		pid     int
		session string
		up      *elevation
	}{c, c.proc.Status().PID, c.fresh, c.homes.current()}
}
