//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/gravitational/trace"

	"berth/agent/ipc/client"
	"berth/internal/dbustest"
	"berth/internal/simcluster"
	"berth/internal/wake"
)

// fault is a kind of bad weather. It is there from the end of start to the end
// of stop; one without stop is over with start.
type fault struct {
	name   string
	about  string
	allows loss
	// acts is what the fault acts on: two that overlap act on different things.
	// Empty means that none overlaps it.
	acts string
	// settle is how long after its end losses are still its own.
	settle time.Duration
	// short and long bound how long it is there.
	short, long time.Duration
	// missing says why it cannot be made here; nil, and empty, mean that it can.
	missing func(w *world) string
	start   func(ctx context.Context, w *world) error
	stop    func(ctx context.Context, w *world) error
}

// settleTime is how long berth has to find its way back before a loss counts:
// generous, because the machine may be busy. What it takes is measured.
const settleTime = 15 * time.Second

// What faults act on.
const (
	onProxy, onCluster, onDisk, onAgent, onDesktop, onNetwork = "proxy", "cluster", "disk", "agent", "desktop", "network"
)

// allFaults returns every fault of the simulated cluster.
func allFaults() []fault {
	return slices.Concat(acting(onProxy, proxyFaults()), acting(onCluster, clusterFaults()), sessionFaults(),
		acting(onDisk, configFaults()), systemFaults(), acting(onAgent, agentFaults()), acting(onDesktop, trayFaults()))
}

func acting(on string, faults []fault) []fault {
	for i := range faults {
		faults[i].acts = on
	}
	return faults
}

// overlaps reports whether two faults can be there at once: one has to last.
func (f fault) overlaps(other fault) bool {
	return f.acts != "" && other.acts != "" && f.acts != other.acts && (f.stop != nil || other.stop != nil)
}

// lasting is a fault for some seconds.
func lasting(f fault) fault {
	if f.short == 0 {
		f.short, f.long = 2*time.Second, 6*time.Second
	}
	if f.allows != none && f.settle == 0 {
		f.settle = settleTime
	}
	return f
}

func proxyFaults() []fault {
	mode := func(m simcluster.Mode) func(context.Context, *world) error {
		return func(_ context.Context, w *world) error { return w.sim.Faults().Proxy(m) }
	}
	healthy := mode(simcluster.Healthy)
	return []fault{
		lasting(fault{
			name: "proxy-away", about: "the proxy is gone, with all its connections, and comes back", allows: fresh | open,
			start: func(_ context.Context, w *world) error { w.sim.Faults().Stop(); return nil },
			stop:  func(_ context.Context, w *world) error { return w.sim.Faults().Start() },
		}),
		lasting(fault{
			name: "proxy-refuses", about: "the proxy refuses new connections; open ones stay", allows: fresh,
			start: mode(simcluster.Refusing), stop: healthy,
		}),
		lasting(fault{
			name: "proxy-slow", about: "0.3 s more a round trip, 200 kB/s",
			start: func(_ context.Context, w *world) error {
				w.sim.Faults().SlowProxy(simcluster.Link{Delay: 300 * time.Millisecond, BytesPerSecond: 200_000})
				return nil
			},
			stop: func(_ context.Context, w *world) error { w.sim.Faults().SlowProxy(simcluster.Link{}); return nil },
		}),
		lasting(fault{
			name: "proxy-black-hole", about: "no byte passes, on open connections neither", allows: fresh,
			start: mode(simcluster.Stalled), stop: healthy,
		}),
		lasting(fault{
			name: "proxy-mute", about: "new connections finish their TLS handshake and hear nothing more", allows: fresh,
			start: mode(simcluster.StalledAfterTLS), stop: healthy,
		}),
		{
			// A connection that was ready for the next client is found dead a moment later.
			name: "proxy-reset", about: "the proxy resets all connections at once", allows: fresh | open, settle: 2 * time.Second,
			start: func(_ context.Context, w *world) error { w.sim.Faults().Reset(); return nil },
		},
		{
			name: "proxy-cert", about: "the proxy has a new TLS certificate of the same CA",
			start: func(_ context.Context, w *world) error { return w.sim.ReplaceWebCert(true) },
		},
		lasting(fault{
			name: "proxy-cert-stranger", about: "the proxy shows a TLS certificate of an unknown CA", allows: fresh,
			start: func(_ context.Context, w *world) error { return w.sim.ReplaceWebCert(false) },
			stop:  func(_ context.Context, w *world) error { return w.sim.ReplaceWebCert(true) },
		}),
	}
}

func clusterFaults() []fault {
	clock := func(d time.Duration) func(context.Context, *world) error {
		return func(_ context.Context, w *world) error { w.sim.Faults().ClockOffset(d); return nil }
	}
	return []fault{
		lasting(fault{
			name: "auth-away", about: "the proxy is up, every call of the auth service fails",
			start: func(_ context.Context, w *world) error {
				w.sim.Faults().RPCError("", trace.ConnectionProblem(nil, "the auth service is away"))
				return nil
			},
			stop: func(_ context.Context, w *world) error { w.sim.Faults().RPCError("", nil); return nil },
		}),
		lasting(fault{
			name: "auth-slow", about: "every call of the auth service takes 3 s longer",
			start: func(_ context.Context, w *world) error { w.sim.Faults().RPCDelay("", 3*time.Second); return nil },
			stop:  func(_ context.Context, w *world) error { w.sim.Faults().RPCDelay("", 0); return nil },
		}),
		lasting(fault{
			name: "user-locked", about: "the user is locked, and unlocked", allows: fresh | open,
			start: func(_ context.Context, w *world) error { w.sim.Lock(user, "chaos"); return nil },
			stop:  func(_ context.Context, w *world) error { w.sim.Unlock(user); return nil },
		}),
		lasting(fault{
			name: "roles-away", about: "a login without roles for any resource, and one with them", allows: fresh | open, // those of agents before
			start: func(_ context.Context, w *world) error { w.sim.SetRoles(user, "outsider"); return w.login() },
			stop:  func(_ context.Context, w *world) error { w.sim.SetRoles(user, "access"); return w.login() },
		}),
		lasting(fault{
			name: "user-ca", about: "the user CA is rotated; a login follows", allows: fresh,
			start: func(_ context.Context, w *world) error { return w.sim.RotateUserCA() },
			stop:  func(_ context.Context, w *world) error { return w.login() },
		}),
		lasting(fault{
			name: "host-ca", about: "the host CA is rotated; a login follows", allows: fresh,
			start: func(_ context.Context, w *world) error { return w.sim.RotateHostCA() },
			stop:  func(_ context.Context, w *world) error { return w.login() },
		}),
		lasting(fault{
			name: "clock-ahead", about: "the cluster's clock is 9 h ahead of this machine's", allows: fresh,
			start: clock(9 * time.Hour), stop: clock(0),
		}),
		lasting(fault{
			name: "clock-behind", about: "the cluster's clock is 9 h behind this machine's", allows: fresh,
			start: clock(-9 * time.Hour), stop: clock(0),
		}),
	}
}

func sessionFaults() []fault {
	return slices.Concat([]fault{
		lasting(fault{
			name: "session-ends", acts: onCluster, about: "the session ends; a login follows", allows: fresh,
			start: func(_ context.Context, w *world) error { w.sim.Faults().ExpireSessions(); return nil },
			stop:  func(_ context.Context, w *world) error { return w.login() },
		}),
		lasting(fault{
			name: "logout", acts: onCluster, about: "tsh logout; a login follows",
			start: func(ctx context.Context, w *world) error {
				out, err := w.command(ctx, w.tsh(), "logout").CombinedOutput()
				if err != nil {
					err = fmt.Errorf("tsh logout: %w: %s", err, out)
				}
				return err
			},
			stop: func(_ context.Context, w *world) error { return w.login() },
		}),
		{
			name: "login-tsh", acts: onCluster, about: "a login by tsh, over a valid session",
			start: func(_ context.Context, w *world) error { return w.login() },
		},
	}, loginFaults())
}

// loginFaults are those that end nothing.
func loginFaults() []fault {
	return []fault{
		{
			name: "login-berth", about: "a login by berth, over a valid session",
			start: func(ctx context.Context, w *world) error {
				_, err := w.loginByBerth(ctx, w.ipc, client.LoginStart{})
				return err
			},
		},
		{
			name: "keychain-locked", about: "berth remembers the password, then wants it while the keychain is locked",
			missing: unlessKeyring, start: keychainLocked,
		},
		{
			name: "two-agents", about: "a second agent on the same Teleport home, and both log in at once, with tsh",
			start: twoAgents,
		},
		{
			// Connections that an agent before this one serves end when roles are dropped.
			name: "assume-drop", about: "an approved request's roles are assumed and dropped", allows: open,
			start: func(ctx context.Context, w *world) error {
				id, err := w.grant()
				if err != nil {
					return err
				}
				if err := w.runBerth(ctx, "request", "assume", "--yes", id); err != nil {
					return err
				}
				wake.Sleep(ctx, 2*time.Second)
				return w.runBerth(ctx, "request", "drop", id)
			},
		},
	}
}

func configFaults() []fault {
	return []fault{
		{
			name: "config-edited", about: "the config file is written in place, with other words",
			start: func(_ context.Context, w *world) error {
				w.extra = fmt.Sprintf("tray: {notify_minutes: %d}\n", 10+time.Now().Second())
				return w.writeConfig()
			},
		},
		lasting(fault{
			name: "config-broken", about: "the config file is no YAML, and then again is",
			start: func(_ context.Context, w *world) error {
				return os.WriteFile(w.paths.Config, []byte("tunnels: [{"), 0o600)
			},
			stop: func(_ context.Context, w *world) error { return w.writeConfig() },
		}),
		{
			name: "config-replaced", about: "the config file is replaced by a rename",
			start: func(_ context.Context, w *world) error {
				next := w.paths.Config + ".next"
				if err := os.WriteFile(next, []byte(w.config(time.Now().String())), 0o600); err != nil {
					return err
				}
				return os.Rename(next, w.paths.Config)
			},
		},
		lasting(fault{
			name: "config-away", about: "the config file is not there for some seconds",
			start: func(_ context.Context, w *world) error { return os.Rename(w.paths.Config, w.paths.Config+".away") },
			stop:  func(_ context.Context, w *world) error { return os.Rename(w.paths.Config+".away", w.paths.Config) },
		}),
	}
}

// unlessRoot says why something that root alone may do cannot be done.
func unlessRoot(w *world) string {
	if w.isRoot {
		return ""
	}
	return "needs root, or user namespaces that anyone may make"
}

// fill is the file that fills a disk.
const fill = "fill"

func systemFaults() []fault {
	return []fault{
		lasting(fault{
			name: "disk-full", acts: onDisk, about: "the disk with berth's home is full", missing: unlessRoot,
			start: func(_ context.Context, w *world) error { return fillDisk(filepath.Join(w.base, fill)) },
			stop:  func(_ context.Context, w *world) error { return os.Remove(filepath.Join(w.base, fill)) },
		}),
		lasting(fault{
			// It overlaps none: others write there, or start an agent whose socket is elsewhere.
			name: "home-read-only", about: "berth's home is mounted read-only", missing: unlessRoot,
			start: func(_ context.Context, w *world) error { return mountReadOnly(w.base) },
			stop:  func(_ context.Context, w *world) error { return unmount(w.base) },
		}),
		lasting(fault{
			name: "network-change", acts: onNetwork, about: "an address comes and goes", missing: unlessRoot,
			start: func(ctx context.Context, _ *world) error { return ip(ctx, "addr", "add", "10.99.7.1/32", "dev", "lo") },
			stop:  func(ctx context.Context, _ *world) error { return ip(ctx, "addr", "del", "10.99.7.1/32", "dev", "lo") },
		}),
		{
			name: "sleep", acts: onAgent, about: "the agent is stopped by SIGSTOP, up to a minute, as by a machine's sleep",
			short: 5 * time.Second, long: 60 * time.Second,
			start: func(_ context.Context, w *world) error { return signalTo(w.agent.MainPID(), stopSignal) },
			stop:  func(_ context.Context, w *world) error { return signalTo(w.agent.MainPID(), continueSignal) },
		},
		lasting(fault{
			name: "descriptors", acts: onAgent, about: "the agent may open two more files", allows: fresh,
			start: func(_ context.Context, w *world) error { return limitFiles(w.agent.MainPID(), 2) },
			stop:  func(_ context.Context, w *world) error { return limitFiles(w.agent.MainPID(), 0) },
		}),
		{
			name: "memory", about: "the agent may have no more memory, and may end for it", allows: fresh | open,
			short: 2 * time.Second, long: 5 * time.Second, settle: settleTime,
			start: func(_ context.Context, w *world) error { return limitMemory(w.agent.MainPID(), true) },
			stop:  func(_ context.Context, w *world) error { return limitMemory(w.agent.MainPID(), false) },
		},
	}
}

func agentFaults() []fault {
	restart := func(ctx context.Context, w *world) error { return w.runBerth(ctx, "agent", "restart") }
	return []fault{
		{name: "agent-restart", about: "berth agent restart", start: restart},
		{
			name: "agent-signal", about: "SIGUSR2, as a package's scripts send it",
			start: func(ctx context.Context, w *world) error {
				return w.awaitSuccessor(ctx, func() error { return signalTo(w.agent.MainPID(), handOverSignal) })
			},
		},
		{
			name: "agent-upgrade", about: "the program is replaced by another version, and the agent restarted",
			start: func(ctx context.Context, w *world) error {
				if err := w.swap(); err != nil {
					return err
				}
				return restart(ctx, w)
			},
		},
		{
			name: "agent-upgrade-fails", about: "the program is replaced by one that does not start, a restart fails, and it is put back",
			start: failingUpgrade,
		},
		{
			// What was under way in it ends; whoever connects later waits.
			name: "agent-killed", about: "kill -9 of the agent, under a manager that keeps its sockets", allows: fresh | open,
			start: func(ctx context.Context, w *world) error {
				return w.awaitSuccessor(ctx, func() error { return signalTo(w.agent.MainPID(), killSignal) })
			},
		},
	}
}

func trayFaults() []fault {
	unlessTray := func(w *world) string {
		if w.tray == nil {
			return "there is no dbus-daemon, and so no tray"
		}
		return ""
	}
	return []fault{
		{
			name: "tray-ended", about: "the tray is ended, and started again", missing: unlessTray,
			start: func(_ context.Context, w *world) error { return ignoreGone(signalTo(w.tray.pid(), endSignal)) },
		},
		{
			name: "tray-killed", about: "kill -9 of the tray", missing: unlessTray,
			start: func(_ context.Context, w *world) error { return ignoreGone(signalTo(w.tray.pid(), killSignal)) },
		},
		lasting(fault{
			name: "bus-away", about: "the message bus dies, and another one comes", missing: unlessTray,
			start: func(_ context.Context, w *world) error { w.bus.stop(); return nil },
			stop:  func(ctx context.Context, w *world) error { return w.bus.start(ctx) },
		}),
	}
}

func unlessKeyring(w *world) string {
	if _, err := exec.LookPath(dbustest.KeyringProgram); w.bus == nil || err != nil {
		return "there is no keyring on a bus here"
	}
	return ""
}

// ignoreGone forgives that a process is there no longer.
func ignoreGone(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
