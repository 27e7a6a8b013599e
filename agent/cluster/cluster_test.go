package cluster

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gravitational/trace"

	"berth/certwatch"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testwait"
	"berth/internal/tshhome"
)

func TestMain(m *testing.M) {
	testwait.ManyAtOnce()
	testwait.NoLeaks(m)
}

func start(t *testing.T, cfg simcluster.Config) *simcluster.Cluster {
	t.Helper()
	if cfg.Databases == nil {
		cfg.Databases = []simcluster.Database{
			{Name: "pg", Protocol: "postgres", Labels: map[string]string{"env": "test"}, Replicas: 3},
			{Name: "orders", Protocol: "mysql"},
		}
	}
	return simworld.Start(t, cfg)
}

// connect logs in and returns a Cluster for that session.
func connect(t *testing.T, sim *simcluster.Cluster, opts ...simcluster.LoginOption) *Cluster {
	t.Helper()
	home := filepath.Join(t.TempDir(), "tsh")
	if err := sim.Login(home, "alice", opts...); err != nil {
		t.Fatal(err)
	}
	return connectHome(t, home)
}

// connectHome returns a Cluster for the session in a home.
func connectHome(t *testing.T, home string) *Cluster {
	t.Helper()
	c, err := New(Config{Profile: simworld.Profile(t, home), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// untilWell waits until the cluster answers and no doubt is left of an answer that came
// too late.
func untilWell(t *testing.T, c *Cluster) {
	t.Helper()
	testwait.Eventually(t, "an answer of the cluster", func() bool {
		return c.Ping(t.Context()) == nil && c.ask(t.Context(), testwait.Patience) == nil
	})
}

func routeOf(sim *simcluster.Cluster) DBRoute {
	return DBRoute{Cluster: sim.Name(), Service: "pg", Protocol: "postgres", User: "alice", Database: "app"}
}

func TestDatabases(t *testing.T) {
	c := connect(t, start(t, simcluster.Config{}))
	dbs, err := c.Databases(t.Context(), c.Root())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range dbs {
		names = append(names, d.Name+" "+d.Protocol)
	}
	if diff := cmp.Diff([]string{"orders mysql", "pg postgres"}, names); diff != "" {
		t.Errorf("databases, each once and by name (-want +got):\n%s", diff)
	}
	_, err = c.Database(t.Context(), c.Root(), "pq")
	var unknown *UnknownDatabaseError
	if !errors.As(err, &unknown) || unknown.Similar != "pg" {
		t.Errorf("Database(pq) = %v, want UnknownDatabaseError that suggests pg", err)
	}
}

func TestDBCert(t *testing.T) {
	for _, version := range []string{simcluster.V16, simcluster.V17} {
		t.Run(version, func(t *testing.T) {
			sim := start(t, simcluster.Config{Version: version})
			c := connect(t, sim, simcluster.WithTTL(time.Hour))
			cert, err := c.DBCert(t.Context(), routeOf(sim))
			if err != nil {
				t.Fatal(err)
			}
			id := certwatch.ParseIdentity(cert.TLS.Leaf.Subject)
			if id.User != "alice" || id.DBService != "pg" || id.DBUser != "alice" || id.RouteToCluster != sim.Name() {
				t.Errorf("identity = %+v, want alice on pg", id)
			}
			if _, ok := cert.TLS.PrivateKey.(*ecdsa.PrivateKey); !ok {
				t.Errorf("key is %T, want ECDSA", cert.TLS.PrivateKey)
			}
			if got, limit := cert.ValidUntil(), c.Profile().Session.ValidUntil; got.After(limit) {
				t.Errorf("cert ends at %v, after its session at %v", got, limit)
			}
			again, err := c.DBCert(t.Context(), routeOf(sim))
			if err != nil || again != cert {
				t.Errorf("second DBCert = %p, %v; want the same cert %p", again, err, cert)
			}
		})
	}
}

func TestDBCertIsSharedByConcurrentCallers(t *testing.T) {
	t.Parallel()
	sim := start(t, simcluster.Config{})
	c := connect(t, sim)
	sim.Faults().RPCDelay("GenerateUserCerts", 200*time.Millisecond)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := c.DBCert(t.Context(), routeOf(sim)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	total := 0
	for _, n := range sim.Counters().Mints {
		total += n
	}
	if total != 1 {
		t.Errorf("50 callers caused %d mints, want 1", total)
	}
}

// TestDBCertOfALateCaller: who found no cert before another's call brought one needs no
// call of its own.
func TestDBCertOfALateCaller(t *testing.T) {
	t.Parallel()
	sim := start(t, simcluster.Config{})
	c := connect(t, sim)
	cert, err := c.DBCert(t.Context(), routeOf(sim))
	if err != nil {
		t.Fatal(err)
	}
	if late, err := c.mintShared(t.Context(), routeOf(sim)); err != nil || late != cert {
		t.Errorf("a late caller got %v, %v; want the cert that is there", late, err)
	}
	if n := sim.Counters().RPCs["GenerateUserCerts"]; n != 1 {
		t.Errorf("the auth service was called %d times, want once", n)
	}
}

// TestDBCertOfACancelledCaller checks that the caller who asked first can give
// up without taking the others with it.
func TestDBCertOfACancelledCaller(t *testing.T) {
	t.Parallel()
	sim := start(t, simcluster.Config{})
	c := connect(t, sim)
	sim.Faults().RPCDelay("GenerateUserCerts", time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { _, err := c.DBCert(ctx, routeOf(sim)); first <- err }()
	testwait.Eventually(t, "the call", func() bool { return sim.Counters().RPCs["GenerateUserCerts"] > 0 })
	second := make(chan error, 1)
	go func() { _, err := c.DBCert(t.Context(), routeOf(sim)); second <- err }()
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled caller got %v", err)
	}
	sim.Faults().RPCDelay("GenerateUserCerts", 0)
	if err := <-second; err != nil {
		t.Errorf("the other caller got %v", err)
	}
	if n := sim.Counters().RPCs["GenerateUserCerts"]; n != 1 {
		t.Errorf("the auth service was called %d times, want once", n)
	}
}

func TestLeafCluster(t *testing.T) {
	sim := start(t, simcluster.Config{})
	if _, err := sim.AddLeaf("leaf.test", simcluster.Database{Name: "leafpg", Protocol: "postgres"}); err != nil {
		t.Fatal(err)
	}
	c := connect(t, sim)
	// A leaf that joins after the login is in no CA file of the profile.
	if _, err := sim.AddLeaf("late.test", simcluster.Database{Name: "latepg", Protocol: "postgres"}); err != nil {
		t.Fatal(err)
	}
	for leaf, name := range map[string]string{"leaf.test": "leafpg", "late.test": "latepg"} {
		if _, err := c.Database(t.Context(), leaf, name); err != nil {
			t.Errorf("Database(%s, %s): %v", leaf, name, err)
		}
		cert, err := c.DBCert(t.Context(), DBRoute{Cluster: leaf, Service: name, Protocol: "postgres"})
		if err != nil {
			t.Errorf("DBCert for %s: %v", leaf, err)
			continue
		}
		if got := certwatch.ParseIdentity(cert.TLS.Leaf.Subject).RouteToCluster; got != leaf {
			t.Errorf("cert for %s is routed to %q", leaf, got)
		}
	}
	var unknown *UnknownClusterError
	if _, err := c.Databases(t.Context(), "nowhere.test"); !errors.As(err, &unknown) {
		t.Errorf("Databases(nowhere.test) = %v, want UnknownClusterError", err)
	}
	if _, err := c.DBCert(t.Context(), DBRoute{Cluster: "nowhere.test", Service: "x"}); !errors.As(err, &unknown) {
		t.Errorf("DBCert(nowhere.test) = %v, want UnknownClusterError", err)
	}
}

// TestLeafsCAIsRotated: what a leaf shows is the leaf's, and nothing is wrong with the
// connection to the root.
func TestLeafsCAIsRotated(t *testing.T) {
	t.Parallel()
	sim := start(t, simcluster.Config{})
	leaf, err := sim.AddLeaf("leaf.test")
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, sim)
	untilWell(t, c)
	if err := c.PingLeaf(t.Context(), "leaf.test"); err != nil {
		t.Fatal(err)
	}
	before, err := c.client(t.Context(), c.Root())
	if err != nil {
		t.Fatal(err)
	}
	if err := leaf.RotateHostCA(); err != nil {
		t.Fatal(err)
	}
	var old *OutdatedError
	testwait.Eventually(t, "the leaf's old CA to be noticed", func() bool {
		return errors.As(c.PingLeaf(t.Context(), "leaf.test"), &old)
	})
	if old.Cluster != "leaf.test" || !old.Trust {
		t.Errorf("the leaf's CA was rotated, and the error is %v", old)
	}
	if fault := c.Check(t.Context()); fault != nil {
		t.Errorf("the leaf's CA was rotated, and the session has the fault %v", fault.Err)
	}
	if after, err := c.client(t.Context(), c.Root()); err != nil || after != before {
		t.Errorf("the connection to the root was given up (%v)", err)
	}
}

func TestErrorsAreClassified(t *testing.T) {
	t.Parallel()
	t.Run("refused_connection_is_told_at_once", func(t *testing.T) {
		sim := start(t, simcluster.Config{})
		c := connect(t, sim)
		sim.Faults().Stop()
		begin := time.Now()
		_, err := c.Databases(t.Context(), c.Root())
		if _, ok := errors.AsType[*UnreachableError](err); !ok {
			t.Errorf("error = %v, want UnreachableError", err)
		}
		testwait.Soon(t, "noticing a refused connection", time.Since(begin), 4*time.Second)
		if err := sim.Faults().Start(); err != nil {
			t.Fatal(err)
		}
		testwait.Eventually(t, "the connection to recover", func() bool {
			_, err = c.Databases(t.Context(), c.Root())
			return err == nil
		})
	})
	t.Run("denied", func(t *testing.T) {
		sim := start(t, simcluster.Config{})
		c := connect(t, sim)
		sim.Faults().RPCError("GenerateUserCerts", trace.AccessDenied("no"))
		var denied *AccessDeniedError
		if _, err := c.DBCert(t.Context(), routeOf(sim)); !errors.As(err, &denied) {
			t.Errorf("error = %v, want AccessDeniedError", err)
		}
	})
	t.Run("expired", func(t *testing.T) {
		sim := start(t, simcluster.Config{})
		sim.Faults().ClockOffset(-2 * time.Hour)
		c := connect(t, sim, simcluster.WithTTL(time.Hour))
		var expired *SessionExpiredError
		if _, err := c.DBCert(t.Context(), routeOf(sim)); !errors.As(err, &expired) {
			t.Errorf("error = %v, want SessionExpiredError", err)
		}
	})
}

func TestPingDropsADeadConnection(t *testing.T) {
	t.Parallel()
	sim := start(t, simcluster.Config{})
	c := connect(t, sim)
	untilWell(t, c)
	if err := sim.Faults().Proxy(simcluster.Stalled); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	var away *UnreachableError
	if err := c.Ping(t.Context()); !errors.As(err, &away) {
		t.Errorf("ping of a stalled proxy = %v, want UnreachableError", err)
	}
	testwait.Soon(t, "noticing a stalled proxy", time.Since(begin), pingTimeout+time.Second)
	if err := sim.Faults().Clear(); err != nil {
		t.Fatal(err)
	}
	// A check that began in the stall is hung up on at its end, and says so.
	testwait.Eventually(t, "a ping after the stall", func() bool { return c.Ping(t.Context()) == nil })
}

func TestConnUpgrade(t *testing.T) {
	sim := start(t, simcluster.Config{BehindLoadBalancer: true})
	c := connect(t, sim, simcluster.WithProfile(func(p *tshhome.Profile) { p.ConnUpgradeRequired = false }))
	if !c.ConnUpgradeRequired() {
		t.Fatal("a proxy that agrees on no ALPN needs a connection upgrade, and the probe did not find out")
	}
	if _, err := c.DBCert(t.Context(), routeOf(sim)); err != nil {
		t.Fatal(err)
	}
}

func TestMFARequired(t *testing.T) {
	sim := start(t, simcluster.Config{Roles: []simcluster.Role{{Name: "access", RequireSessionMFA: true}}})
	c := connect(t, sim)
	if got, err := c.MFARequired(t.Context(), routeOf(sim)); err != nil || !got {
		t.Errorf("MFARequired = %v, %v; want true", got, err)
	}
	sim = start(t, simcluster.Config{})
	c = connect(t, sim)
	if got, err := c.MFARequired(t.Context(), routeOf(sim)); err != nil || got {
		t.Errorf("MFARequired without such a role = %v, %v; want false", got, err)
	}
}

func TestRefreshAt(t *testing.T) {
	minted := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	tests := []struct {
		name string
		life time.Duration
		want time.Duration
	}{
		{"twelve_hours", 12 * time.Hour, 8 * time.Hour},
		{"half_an_hour", 30 * time.Minute, 20 * time.Minute},
		{"one_minute", time.Minute, 40 * time.Second},
		{"nearly_over", 3 * time.Second, minRefresh},
		{"over", -time.Minute, minRefresh},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got := refreshAt(minted, minted.Add(tc.life))
			if want := minted.Add(tc.want); !got.Equal(want) {
				t.Errorf("RefreshAt(life %v) = %v, want %v", tc.life, got, want)
			}
		})
	}
}

// TestCheckIsFresh: a check that was under way when a caller asks says nothing of
// what has changed since it began, whether it finds that the cluster refuses the
// session or that all is well.
func TestCheckIsFresh(t *testing.T) {
	t.Parallel()
	refused := &AccessDeniedError{Op: "ping", Err: errors.New("locked")}
	for name, tc := range map[string]struct{ underway, asked error }{
		"unlocked": {underway: refused},
		"locked":   {asked: refused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := connect(t, start(t, simcluster.Config{}))
			s := &c.stand
			check := func(err error) (last bool) { // the test is the goroutine that asks
				last, _ = c.judge(nil, err)
				s.moved.Wake()
				return last
			}
			begin := func() {
				s.mu.Lock()
				s.begun++
				s.mu.Unlock()
			}
			s.mu.Lock()
			s.asking = true
			s.mu.Unlock()
			begin()
			found := make(chan *Fault)
			go func() { found <- c.ask(t.Context(), testwait.Patience) }()
			<-s.ask
			if check(tc.underway) {
				t.Error("no check follows the one that was under way")
			}
			testwait.Moment() // for a caller that takes it for its answer
			begin()
			if last := check(tc.asked); last != (tc.asked == nil) {
				t.Errorf("the check that was asked for is the last: %v", last)
			}
			if fault := <-found; (fault != nil) != (tc.asked != nil) {
				t.Errorf("a check that began before it was asked for decides: %v", fault)
			}
		})
	}
}

// TestAddedJustNow asks for a leaf and a database before they are there, and
// again when they are.
func TestAddedJustNow(t *testing.T) {
	t.Parallel()
	sim := start(t, simcluster.Config{})
	c := connect(t, sim)
	if _, err := c.ClusterCAs(t.Context(), "late.test"); err == nil {
		t.Fatal("a cluster that is not there was found")
	}
	if _, err := c.Database(t.Context(), c.Root(), "late"); err == nil {
		t.Fatal("a database that is not there was found")
	}
	if _, err := sim.AddLeaf("late.test"); err != nil {
		t.Fatal(err)
	}
	sim.AddDatabase(simcluster.Database{Name: "late", Protocol: "postgres"})
	foundSoon(t, "the leaf and the database", func() error {
		_, err := c.ClusterCAs(t.Context(), "late.test")
		if err == nil {
			_, err = c.Database(t.Context(), c.Root(), "late")
		}
		return err
	})
}

// foundSoon waits until something that was missed a moment ago is found, which
// must be before the next list is due.
func foundSoon(t *testing.T, what string, look func() error) {
	t.Helper()
	began := time.Now()
	testwait.Eventually(t, what, func() bool { return look() == nil })
	testwait.Soon(t, what, time.Since(began), listTTL/3)
}
