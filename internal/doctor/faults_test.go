//go:build !windows

package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/osservice"
	"berth/internal/paths"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testwait"
	"berth/proxies/kube/kubeconfig"
	"berth/tray/autostart"
)

// bench is a healthy berth, for a test to break.
type bench struct {
	*simworld.World
	t   *testing.T
	dir string // what holds all of it
	cfg Config
	env map[string]string
}

func newBench(t *testing.T, change func(*simcluster.Config)) *bench {
	t.Helper()
	simCfg := simcluster.Config{Databases: []simcluster.Database{{Name: "orders", Protocol: "postgres"}}}
	if change != nil {
		change(&simCfg)
	}
	dir, err := os.MkdirTemp("", "doctor") // t.TempDir's names may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := simworld.In(t, simCfg, filepath.Join(dir, "tsh"), filepath.Join(dir, "berth"))
	b := &bench{World: w, t: t, dir: dir}
	b.env = map[string]string{paths.HomeVar: w.Dir, "HOME": dir, "PATH": filepath.Join(dir, "bin")}
	b.cfg = Config{Logger: slog.New(slog.DiscardHandler), Paths: w.Paths, Version: "1.0.0", Env: func(name string) string { return b.env[name] }}
	b.Login()
	b.Configure(b.Trust())
	b.tsh("16.4.12")
	return b
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) write(path, text string, mode os.FileMode) {
	b.t.Helper()
	b.must(os.MkdirAll(filepath.Dir(path), 0o700))
	b.must(os.WriteFile(path, []byte(text), mode))
	b.must(os.Chmod(path, mode))
}

func (b *bench) tsh(version string) {
	b.t.Helper()
	b.write(b.path("bin/tsh"), "#!/bin/sh\necho 'Teleport v"+version+" git:v go1.22'\n", 0o700)
}

func (b *bench) listen(network, address string) net.Listener {
	b.t.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), network, address)
	b.must(err)
	b.t.Cleanup(func() { _ = l.Close() })
	return l
}

// find returns the findings of a check.
func find(r Report, check string) []Finding {
	var found []Finding
	for _, f := range r.Findings {
		if f.Check == check {
			found = append(found, f)
		}
	}
	return found
}

// wants fails unless a check found something of a status whose text says
// words, and whose next step says more of them.
func wants(t *testing.T, r Report, check string, status Status, text, fix string) {
	t.Helper()
	for _, f := range find(r, check) {
		if f.Status == status && strings.Contains(f.Text, text) && strings.Contains(f.Fix, fix) {
			return
		}
	}
	t.Errorf("no finding %s, %s, %q, %q in:", check, status, text, fix)
	for _, f := range r.Findings {
		t.Logf("%s %s: %s → %s", f.Check, f.Status, f.Text, f.Fix)
	}
}

// TestHealthy: nothing is found where nothing but the agent is missing, so that
// each fault below is found for what it is.
func TestHealthy(t *testing.T) {
	b := newBench(t, nil)
	r := Run(t.Context(), b.cfg)
	for _, f := range r.Findings {
		if f.Check != "agent" && (f.Status == Fail || f.Status == Warn) {
			t.Errorf("%s %s: %s", f.Check, f.Status, f.Text)
		}
	}
	wants(t, r, "proxy", OK, "reached and trusted", "")
	wants(t, r, "home", OK, "1 profile, layout v16", "")
	wants(t, r, "tsh", OK, "tsh 16.4.12", "")
}

// TestBadConfig: a mistake is one finding, and everything else is looked at with the
// config that was good last; without one, what it would say is not guessed.
func TestBadConfig(t *testing.T) {
	b := newBench(t, nil)
	good, err := os.ReadFile(b.cfg.Paths.Config)
	b.must(err)
	b.write(b.cfg.Paths.Config, string(good)+"nonsense: 1\n", 0o600)
	b.write(b.cfg.Paths.LastGoodConfig(), string(good), 0o600)
	r := Run(t.Context(), b.cfg)
	wants(t, r, "config", Fail, "nonsense", "berth config edit")
	wants(t, r, "home", OK, "1 profile", "")
	wants(t, r, "proxy", OK, "reached and trusted", "")
	wants(t, r, "tsh", OK, "tsh 16.4.12", "")

	b.must(os.Remove(b.cfg.Paths.LastGoodConfig()))
	b.must(os.Remove(b.path("bin/tsh")))
	t.Setenv("HOME", t.TempDir()) // without a profile of tsh
	r = Run(t.Context(), b.cfg)
	for _, check := range []string{"home", "proxy", "tsh", "port", "kubeconfig"} {
		wants(t, r, check, Skip, "mistakes are corrected", "")
	}
}

// TestLostConfig: a config that is gone or was emptied is no config without mistakes, and
// everything else is looked at with what it said.
func TestLostConfig(t *testing.T) {
	b := newBench(t, nil)
	good, err := os.ReadFile(b.cfg.Paths.Config)
	b.must(err)
	b.write(b.cfg.Paths.LastGoodConfig(), string(good), 0o600)
	b.write(b.cfg.Paths.Config, "\n", 0o600)
	wants(t, Run(t.Context(), b.cfg), "config", Fail, "is empty; what it said last is in", "to have it back: cp ")
	b.must(os.Remove(b.cfg.Paths.Config))
	r := Run(t.Context(), b.cfg)
	wants(t, r, "config", Fail, "is gone; what it said last is in", "to have it back: cp ")
	wants(t, r, "proxy", OK, "reached and trusted", "")
}

// TestFaults plants one fault after the other.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		sim       func(*simcluster.Config)
		plant     func(*bench)
		check     string
		status    Status
		text, fix string
	}{
		"no_agent": {check: "agent", status: Fail, text: "is not running", fix: "berth agent install"},
		"agent_hangs": {
			plant: func(b *bench) { b.listen("unix", b.cfg.Paths.Socket) },
			check: "agent", status: Fail, text: "does not answer", fix: "berth agent restart",
		},
		"agent_killed": {
			plant: func(b *bench) { b.write(b.cfg.Paths.LockPID(), "999999\n", 0o600) },
			check: "stale_state", status: Warn, text: "left", fix: "--fix",
		},
		"bad_config": {
			plant: func(b *bench) { b.Configure("ca_file: x", "tunnels:", "  - {name: a b, kind: db}") },
			check: "config", status: Fail, text: "6:", fix: "berth config edit",
		},
		"no_tsh": {
			plant: func(b *bench) { b.Configure(b.Trust(), "tsh: {path: /no/such/tsh}") },
			check: "tsh", status: Fail, text: "/no/such/tsh", fix: "correct the path",
		},
		"old_tsh": {
			plant: func(b *bench) { b.tsh("9.0.0") },
			check: "tsh_version", status: Fail, text: "tsh 9.0.0 is too old", fix: "update tsh",
		},
		"home_is_a_file": {
			plant: func(b *bench) { b.must(os.RemoveAll(b.Home)); b.write(b.Home, "x", 0o600) },
			check: "home", status: Fail, text: "is a file", fix: "homes",
		},
		"home_is_empty": {
			plant: func(b *bench) { b.must(os.RemoveAll(b.Home)) },
			check: "home", status: Warn, text: "no login yet", fix: "berth login",
		},
		"session_ended": {
			plant: func(b *bench) { b.cfg.Now = func() time.Time { return time.Now().Add(13 * time.Hour) } },
			check: "session", status: Warn, text: "ended at", fix: "berth login localhost",
		},
		"broken_profile": {
			plant: func(b *bench) {
				key := filepath.Join(b.Home, "keys", "localhost", "alice-x509.pem")
				b.write(key, "no certificate\n", 0o600)
				old := time.Now().Add(-time.Hour) // no program is still writing
				b.must(filepath.WalkDir(b.Home, func(path string, _ os.DirEntry, err error) error {
					return errors.Join(err, os.Chtimes(path, old, old))
				}))
			},
			check: "profile", status: Fail, text: "is broken", fix: "berth login",
		},
		"dns": {
			plant: func(b *bench) {
				b.cfg.Resolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
					return nil, errors.New("there is no network")
				}}
				b.write(b.cfg.Paths.Config, "homes: [/nowhere]\nprofiles: [{proxy: \"tele.example.com:443\"}]\n", 0o600)
			},
			check: "proxy_dns", status: Fail, text: "tele.example.com is not found", fix: "VPN",
		},
		"tcp": {
			plant: func(b *bench) { b.Sim.Faults().Stop() },
			check: "proxy_tcp", status: Fail, text: "cannot be connected to", fix: "firewall",
		},
		"proxy_hangs": {
			plant: func(b *bench) { b.must(b.Sim.Faults().Proxy(simcluster.Stalled)) },
			check: "proxy_tls", status: Fail, text: "does not answer", fix: "address",
		},
		"tls": {
			plant: func(b *bench) { b.Configure("insecure: false") },
			check: "proxy_tls", status: Fail, text: "is not trusted", fix: "ca_file",
		},
		"ca_file": {
			plant: func(b *bench) { b.Configure("ca_file: /no/such.pem") },
			check: "proxy_tls", status: Fail, text: "cannot be read", fix: "ca_file",
		},
		"load_balancer": {
			sim: func(c *simcluster.Config) { c.BehindLoadBalancer = true },
			plant: func(b *bench) {
				file := filepath.Join(b.Home, "localhost.yaml")
				text, err := os.ReadFile(file)
				b.must(err)
				b.write(file, strings.ReplaceAll(string(text), "tls_routing_conn_upgrade_required: true\n", ""), 0o600)
			},
			check: "proxy_alpn", status: Warn, text: "load balancer", fix: "log in again",
		},
		"clock": {
			plant: func(b *bench) { b.cfg.Now = func() time.Time { return time.Now().Add(10 * time.Minute) } },
			check: "clock", status: Fail, text: "s ahead of that of localhost", fix: "set the clock",
		},
		"port": {
			plant: func(b *bench) {
				port := b.listen("tcp", "127.0.0.1:0").Addr().(*net.TCPAddr).Port
				b.Configure(b.Trust(),
					fmt.Sprintf("tunnels: [{name: pg, kind: db, cluster: sim.test, resource: orders, port: %d}]", port))
			},
			check: "port", status: Fail, text: fmt.Sprintf("(pid %d)", os.Getpid()), fix: "stop that program",
		},
		"open_state": {
			plant: func(b *bench) { b.must(os.Chmod(b.cfg.Paths.StateDir, 0o755)) },
			check: "files", status: Fail, text: "(mode 0755)", fix: "chmod 0700",
		},
		"open_key": {
			plant: func(b *bench) { b.must(os.Chmod(filepath.Join(b.Home, "keys", "localhost", "alice"), 0o644)) },
			check: "files", status: Fail, text: "keys/localhost/alice (mode 0644)", fix: "chmod 0600",
		},
		"open_merged": { // in the user's own kubeconfig
			plant: func(b *bench) {
				b.write(filepath.Join(b.env["HOME"], ".kube", "config"), string(kubeconfig.Marshal([]kubeconfig.Context{{
					Name: "k8s", Server: "https://127.0.0.1:1", ServerName: "k8s.kube.berth.internal", ClientKey: []byte("key"),
				}})), 0o640)
			},
			check: "files", status: Fail, text: ".kube/config (mode 0640)", fix: "chmod 0600",
		},
		"service_moved": {
			plant: func(b *bench) {
				b.cfg.Service = func(context.Context) (osservice.Status, error) {
					return osservice.Status{Kind: osservice.KindSystemd, Installed: true, Enabled: true, Program: "/old/berth", ProgramMissing: true}, nil
				}
			},
			check: "service", status: Fail, text: "/old/berth", fix: "berth agent install",
		},
		"autostart_moved": {
			plant: func(b *bench) {
				b.env["XDG_CONFIG_HOME"] = b.path("xdg")
				_, err := autostart.Install(autostart.Entry{Program: "/old/berth"}, b.cfg.Env)
				b.must(err)
				b.cfg.Autostart = autostart.Entry{Program: "/new/berth"}
			},
			check: "autostart", status: Warn, text: "moved", fix: "berth tray install",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, c.sim)
			if c.plant != nil {
				c.plant(b)
			}
			started := time.Now()
			r := Run(t.Context(), b.cfg)
			testwait.Soon(t, "an examination", time.Since(started), patience*MaxTime)
			wants(t, r, c.check, c.status, c.text, c.fix)
			if c.status == Fail && !r.Failed() {
				t.Error("the report says that all works")
			}
		})
	}
}

// TestBehindLoadBalancer: the upgrade is tried where it is needed and known.
func TestBehindLoadBalancer(t *testing.T) {
	b := newBench(t, func(c *simcluster.Config) { c.BehindLoadBalancer = true })
	wants(t, Run(t.Context(), b.cfg), "proxy", OK, "through a load balancer", "")
}

// TestNoUpgrade: a load balancer that lets no upgrade pass is named.
func TestNoUpgrade(t *testing.T) {
	b := newBench(t, nil)
	balancer := httptest.NewTLSServer(http.NotFoundHandler())
	defer balancer.Close()
	roots := x509.NewCertPool()
	roots.AddCert(balancer.Certificate())
	at := target{addr: balancer.Listener.Addr().String(), host: "127.0.0.1", roots: roots, clusterCAs: roots, upgrade: true, knowsProxy: true}
	d := newDoctor(t.Context(), b.cfg)
	wants(t, Report{Findings: d.checkProxy(t.Context(), at)}, "proxy_upgrade", Fail, "does not let", "WebSocket")
}

// TestMend: what is safe is mended, is well then, and nothing else is touched.
func TestMend(t *testing.T) {
	b := newBench(t, nil)
	key := filepath.Join(b.Home, "keys", "localhost", "alice")
	b.must(os.Chmod(b.Home, 0o755))
	b.must(os.Chmod(key, 0o644))
	b.must(os.Chmod(b.cfg.Paths.Config, 0o666))
	b.write(b.cfg.Paths.LockPID(), "999999\n", 0o600)
	before := Run(t.Context(), b.cfg)
	for _, f := range Mend(t.Context(), before.Findings, "stale_state") {
		if (f.Fixed != "") != (f.Check == "stale_state") {
			t.Errorf("stale state alone was to be mended, and %+v", f)
		}
	}
	for _, f := range Mend(t.Context(), before.Findings, "files:"+key) {
		if (f.Fixed != "") != strings.Contains(f.Text, key) {
			t.Errorf("one file alone was to be closed, and %+v", f)
		}
	}
	b.write(b.cfg.Paths.LockPID(), "999999\n", 0o600)
	mended := 0
	for _, f := range Mend(t.Context(), before.Findings) {
		if f.Fixed != "" {
			mended++
			if f.Status != OK || f.Mendable {
				t.Errorf("mended, and %+v", f)
			}
		}
	}
	if mended != 4 {
		t.Errorf("%d findings mended, want 4", mended)
	}
	for path, want := range map[string]os.FileMode{b.Home: 0o700, key: 0o600, b.cfg.Paths.Config: 0o600} {
		info, err := os.Stat(path)
		b.must(err)
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), want)
		}
	}
	if _, err := os.Stat(b.cfg.Paths.LockPID()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lock's note is still there: %v", err)
	}
	after := Run(t.Context(), b.cfg)
	if left := append(find(after, "stale_state"), find(after, "files")...); len(left) != 1 || left[0].Status != OK {
		t.Errorf("after mending: %+v", left)
	}
}
