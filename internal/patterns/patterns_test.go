package patterns_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/pquerna/otp/totp"

	"berth/certwatch"
	"berth/internal/patterns"
	"berth/internal/patterns/conformance"
	"berth/internal/simcluster"
	"berth/internal/simcluster/faketsh"
	"berth/internal/simworld"
	"berth/internal/testwait"
)

// The test's program is the tsh that is run.
func TestMain(m *testing.M) {
	if faketsh.Invoked(os.Args[0], os.Environ()) {
		os.Exit(faketsh.Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

const seed = "JBSWY3DPEHPK3PXP"

// each runs f for every way, in a world of its own.
func each(t *testing.T, cfg simcluster.Config, f func(*testing.T, conformance.Way, *simworld.World)) {
	t.Helper()
	for _, way := range conformance.Ways() {
		t.Run(way.Name, func(t *testing.T) {
			t.Setenv("BERTH_FAKE_TSH", "1")
			t.Setenv("BERTH_FAKE_TSH_VERSION", cfg.Version)
			f(t, way, simworld.New(t, cfg))
		})
	}
}

// config is where the world's login is.
func config(t *testing.T, w *simworld.World) patterns.Config {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return patterns.Config{Home: w.Home, TSH: program, CAFile: w.CAFile(), Poll: 50 * time.Millisecond}
}

func TestConformance(t *testing.T) {
	cfg := simcluster.Config{
		Users: []simcluster.User{{Name: "alice"}, {Name: "bob"}},
		Roles: []simcluster.Role{{Name: "access", RequestVerbs: []string{"list", "read"}}},
		Databases: []simcluster.Database{
			{Name: "orders", Protocol: "mysql"}, {Name: "app", Protocol: "postgres", Replicas: 2}, {Name: "cache", Protocol: "redis"},
		},
	}
	for _, version := range []string{simcluster.V16, simcluster.V17} {
		cfg.Version = version
		t.Run(version, func(t *testing.T) {
			each(t, cfg, func(t *testing.T, way conformance.Way, w *simworld.World) {
				w.Login()
				conformance.Run(t, way, simulated(t, w))
			})
		})
	}
}

// simulated is what the suite needs of a simulated cluster.
func simulated(t *testing.T, w *simworld.World) conformance.World {
	t.Helper()
	var asked atomic.Int64
	return conformance.World{
		Config: config(t, w), User: "alice", WebCAs: w.Sim.WebCAPool(), Proxy: w.Sim.ProxyAddr(),
		Databases: []patterns.Database{{Name: "app", Protocol: "postgres"}, {Name: "cache", Protocol: "redis"}, {Name: "orders", Protocol: "mysql"}},
		Route:     patterns.Route{Database: "app", Protocol: "postgres", User: "dev", Name: "main"},
		Ask: func(_ *testing.T, reason string) (string, []string) {
			roles := []string{"access", "dba"}[:1+asked.Add(1)%2]
			return w.Sim.PutAccessRequest(simcluster.AccessRequest{User: "alice", Roles: roles, Reason: reason}), roles
		},
		Approve: func(t *testing.T, id string) {
			if err := w.Sim.ResolveAccessRequest(id, types.RequestState_APPROVED, "ok"); err != nil {
				t.Fatal(err)
			}
		},
		AskAsAnother: func(*testing.T) {
			w.Sim.PutAccessRequest(simcluster.AccessRequest{User: "bob", Roles: []string{"access"}})
		},
		Lock:   func(*testing.T) { w.Sim.Lock("alice", "look into this first") },
		Unlock: func(*testing.T) { w.Sim.Unlock("alice") },
	}
}

func TestProxyAway(t *testing.T) {
	each(t, simcluster.Config{}, func(t *testing.T, way conformance.Way, w *simworld.World) {
		w.Login()
		b := conformance.Start(t, way, config(t, w))
		ctx, cancel := context.WithTimeout(t.Context(), testwait.Patience)
		defer cancel()
		id := w.Sim.PutAccessRequest(simcluster.AccessRequest{User: "alice", Roles: []string{"access"}})
		seen := make(chan patterns.Request, 1000)
		ended := make(chan error, 1)
		go func() { ended <- b.WatchRequests(ctx, func(r patterns.Request) { seen <- r }) }()
		select {
		case r := <-seen:
			if r.ID != id {
				t.Errorf("the watch sees %+v, want %s", r, id)
			}
		case err := <-ended:
			t.Fatalf("the watch ended before it saw %s: %v", id, err)
		}
		w.Sim.Faults().Stop()
		conformance.Refused(t, way, <-ended, patterns.ErrUnreachable)
		conformance.Refused(t, way, b.Ping(ctx), patterns.ErrUnreachable)
		if err := w.Sim.Faults().Start(); err != nil {
			t.Fatal(err)
		}
		testwait.Eventually(t, "the cluster to be there again", func() bool { return b.Ping(ctx) == nil })
	})
}

func TestExpired(t *testing.T) {
	each(t, simcluster.Config{}, func(t *testing.T, way conformance.Way, w *simworld.World) {
		w.Login(simcluster.WithTTL(-time.Hour))
		b := conformance.Start(t, way, config(t, w))
		conformance.Refused(t, way, b.Ping(t.Context()), patterns.ErrExpired)
	})
}

// TestWatchEnds watches with a login that expires, which ends the watch.
func TestWatchEnds(t *testing.T) {
	const left = 2 * time.Second
	each(t, simcluster.Config{}, func(t *testing.T, way conformance.Way, w *simworld.World) {
		w.Login(simcluster.WithTTL(left))
		b := conformance.Start(t, way, config(t, w))
		ctx, cancel := context.WithTimeout(t.Context(), left+testwait.Patience)
		defer cancel()
		err := b.WatchRequests(ctx, func(patterns.Request) {})
		if ctx.Err() != nil {
			t.Error("the watch goes on after its login has expired")
		}
		conformance.Refused(t, way, err, patterns.ErrExpired)
	})
}

// TestCodes has a certificate for a database that takes a one-time code.
func TestCodes(t *testing.T) {
	cfg := simcluster.Config{
		Users:     []simcluster.User{{Name: "alice", TOTP: seed}},
		Roles:     []simcluster.Role{{Name: "access", RequireSessionMFA: true}},
		Databases: []simcluster.Database{{Name: "app", Protocol: "postgres"}},
	}
	each(t, cfg, func(t *testing.T, way conformance.Way, w *simworld.World) {
		w.Login()
		b := conformance.Start(t, way, config(t, w))
		code, err := totp.GenerateCode(seed, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		cert, err := b.MintDB(t.Context(), patterns.Route{Database: "app", Protocol: "postgres", User: "dev", Name: "main", Code: code})
		if !way.Features.Codes {
			if err == nil {
				t.Error("it takes a code, which its features deny")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if id := certwatch.ParseIdentity(cert.Leaf.Subject); id.MFADeviceID == "" {
			t.Errorf("the certificate does not say that a code was given: %+v", id)
		}
		// The auth service gives a minute to whoever does not say that they are a tunnel.
		if left := time.Until(cert.Leaf.NotAfter); left < time.Hour {
			t.Errorf("the certificate that took a code ends in %s, want the session's end", left)
		}
	})
}

// TestBehindALoadBalancer asks a proxy that is reached by an upgrade only.
func TestBehindALoadBalancer(t *testing.T) {
	each(t, simcluster.Config{BehindLoadBalancer: true}, func(t *testing.T, way conformance.Way, w *simworld.World) {
		w.Login()
		b := conformance.Start(t, way, config(t, w))
		ctx, cancel := context.WithTimeout(t.Context(), testwait.Patience)
		defer cancel()
		if err := b.Ping(ctx); (err == nil) != way.Features.Upgrade {
			t.Errorf("ping: %v, while its features say %v", err, way.Features.Upgrade)
		}
	})
}

// TestManyDatabases lists more than one answer can hold.
func TestManyDatabases(t *testing.T) {
	var cfg simcluster.Config
	text := map[string]string{"text": strings.Repeat("x", 5000)} // 1,000 of them exceed gRPC's 4 MB
	want := make([]patterns.Database, 1100)
	for i := range want {
		want[i] = patterns.Database{Name: fmt.Sprintf("db-%04d", i), Protocol: "postgres"}
		cfg.Databases = append(cfg.Databases, simcluster.Database{Name: want[i].Name, Protocol: "postgres", Labels: text})
	}
	each(t, cfg, func(t *testing.T, way conformance.Way, w *simworld.World) {
		w.Login()
		got, err := conformance.Start(t, way, config(t, w)).Databases(t.Context())
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%d databases, %v; want all %d in order", len(got), err, len(want))
		}
	})
}

func TestNoLogin(t *testing.T) {
	for _, way := range conformance.Ways() {
		cfg := patterns.Config{Home: filepath.Join(t.TempDir(), "none"), TSH: filepath.Join(t.TempDir(), "tsh"), Poll: time.Second}
		b, err := way.Open(t.Context(), cfg)
		if err == nil {
			err = b.Ping(t.Context())
		}
		if err == nil {
			t.Errorf("%s works without a login", way.Name)
		}
	}
}
