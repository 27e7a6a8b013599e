//go:build e2e && linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
)

// TestLeafCluster reaches a database of a leaf cluster through the root's
// proxy, for somebody who logged in when the leaf was there and for somebody
// who logged in before.
func TestLeafCluster(t *testing.T) {
	early := newPerson(t, roleDB)
	early.login()
	early.startAgent("tunnels:", strings.Replace(tunnelLine("waiting", "pg-leaf", mustFreePort(t)), "ref.test", "leaf.test", 1))
	if r := early.tryBerth("tunnel", "add", "db", "leafy", "--cluster", "leaf.test", "--resource", "pg-leaf"); r.code != 1 ||
		!strings.Contains(r.err, "leaf.test") {
		t.Errorf("a tunnel to an unknown cluster: exit code %d\n%s", r.code, r.err)
	}
	waiting := early.watch()
	leaf := startLeaf(t)
	online := joined(t)
	at := waiting.await(time.Time{}, 30*time.Second, "waiting", "ready", ready)
	t.Logf("a tunnel to a leaf that was to join is ready %s after the root had it online", at.Sub(online).Round(time.Millisecond))
	if at.Sub(online) > 5*time.Second {
		t.Errorf("ready %s after the leaf joined, want 5 s", at.Sub(online))
	}
	late := newPerson(t, roleDB)

	t.Run("login_after_the_leaf_joined", func(t *testing.T) {
		joined := time.Now()
		err := until(t.Context(), time.Minute, 500*time.Millisecond, func() error {
			late.login()
			out, err := run(t.Context(), late.env(late.tshHome), "", filepath.Join(lab.bin, "tsh"), "db", "ls", "--cluster=leaf.test")
			if err == nil && !strings.Contains(out.out, "pg-leaf") {
				late.logout()
				err = fmt.Errorf("tsh lists no pg-leaf: %s%s", out.out, out.err)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("tsh lists the leaf's database %s after it was asked to join", time.Since(joined).Round(100*time.Millisecond))
		late.startAgent()
		late.useLeaf(t)
	})
	t.Run("login_before_the_leaf_joined", func(t *testing.T) {
		early.useLeaf(t)
	})
	t.Run("leaf_goes_away", func(t *testing.T) {
		link := late.berth("tunnel", "url", "leafy")
		late.addTunnel("rooty")
		late.awaitReady("rooty")
		if err := leaf.stop(); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		r := late.psql(link, "select 1")
		t.Logf("psql prints after %s: %s", time.Since(begin).Round(time.Millisecond), strings.TrimSpace(r.err))
		if r.code != 2 || !strings.Contains(r.err, "tunnel leafy: leaf cluster away") {
			t.Errorf("psql exits %d with the leaf gone: %s", r.code, r.err)
		}
		got, err := query(t.Context(), late.berth("tunnel", "url", "rooty"), "select current_user::text")
		if err != nil || got != "app" {
			t.Errorf("with the leaf gone the root's tunnel answers %q, %v", got, err)
		}
		w := late.watch()
		w.await(begin, 30*time.Second, "leafy", "away", func(tun state.Tunnel) bool {
			return tun.State == state.TunnelError && tun.Problem.Code == state.CodeLeafAway
		})
		for _, problem := range late.snapshot().Problems {
			if problem.Code != state.CodeLeafAway {
				t.Errorf("with the leaf gone there is %+v", problem)
			}
		}
		if err := leaf.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		online := joined(t)
		at := w.await(begin, 60*time.Second, "leafy", "ready", func(tun state.Tunnel) bool { return ready(tun) && tun.Problem == nil })
		t.Logf("ready %s after the root had the leaf online again", at.Sub(online).Round(time.Millisecond))
		if at.Sub(online) > 5*time.Second {
			t.Errorf("ready %s after the leaf was back, want 5 s", at.Sub(online))
		}
		served := until(t.Context(), 20*time.Second, 250*time.Millisecond, func() error {
			if r := late.psql(link, "select 1"); r.code != 0 {
				return errors.New(r.err)
			}
			return nil
		})
		if served != nil {
			t.Errorf("with the leaf back no query gets through: %v", served)
		}
	})
}

// joined waits until the root has the leaf online, and returns when that was seen.
func joined(t *testing.T) time.Time {
	t.Helper()
	err := until(t.Context(), time.Minute, 100*time.Millisecond, func() error {
		out, err := lab.teleport.tctl(t.Context(), "", "get", "rc", "--format=json")
		if err == nil && !strings.Contains(out, `"online"`) {
			err = errors.New("the leaf is not online")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return time.Now()
}

// clustersStale is how long an agent may go on to say that it knows no such
// cluster: it asks anew when its list lacks the name and is older than a second.
const clustersStale = 5 * time.Second

// useLeaf adds a tunnel to the leaf's database and uses it, within the test t.
func (p *person) useLeaf(t *testing.T) {
	t.Helper()
	was := p.t
	p.t = t
	defer func() { p.t = was }()
	begin := time.Now()
	// An agent that has asked for the clusters before takes the answer as good
	// for a while.
	err := until(t.Context(), clustersStale, 250*time.Millisecond, func() error {
		listed := p.tryBerth("resources", "db", "--cluster", "leaf.test", "--json")
		if listed.code != 0 || !strings.Contains(listed.out, `"pg-leaf"`) {
			return fmt.Errorf("berth resources db --cluster leaf.test exits %d\n%s%s", listed.code, listed.out, listed.err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("berth lists the leaf's database after %s", time.Since(begin).Round(time.Millisecond))
	begin = time.Now()
	p.addTunnel("leafy", "--cluster", "leaf.test", "--resource", "pg-leaf")
	p.awaitReady("leafy")
	t.Logf("added and ready after %s", time.Since(begin).Round(time.Millisecond))
	link := p.berth("tunnel", "url", "leafy")
	// The proxy of a cluster that was just joined by another one hangs up on
	// everybody until it has learnt that one's databases.
	err = until(t.Context(), 15*time.Second, 250*time.Millisecond, func() error {
		r := p.psql(link, "select current_user")
		if r.code != 0 || strings.TrimSpace(r.out) != "app" {
			return fmt.Errorf("psql prints %q (exit code %d)\n%s", r.out, r.code, r.err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p.awaitReady("leafy")
	tun := p.tunnel("leafy")
	if tun.Cluster != "leaf.test" || tun.Profile != lab.teleport.addr() || tun.Engine != state.EngineNative || tun.Problem != nil {
		t.Errorf("status shows the tunnel %+v", tun)
	}
}

// startLeaf starts a second cluster and joins it to the first.
func startLeaf(t *testing.T) *teleport {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	leaf, err := newTeleport(lab, teleportConfig{cluster: "leaf.test", databases: []dbService{
		{name: "pg-leaf", uri: fmt.Sprintf("127.0.0.1:%d", lab.postgres.port), foreign: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		_, err := lab.teleport.tctl(ctx, "", "rm", "rc/"+leaf.cfg.cluster) // the other tests know one cluster
		if err := errors.Join(err, leaf.stop()); err != nil {
			t.Error(err)
		}
	})
	const token = "join-for-the-length-of-a-test"
	clientCA := ""
	for _, step := range []func() error{
		func() error { return leaf.start(ctx) },
		func() error { return leaf.createRoles(ctx) },
		func() error { clientCA, err = leaf.tctl(ctx, "", "auth", "export", "--type=db-client"); return err },
		func() error { return lab.postgres.trust(ctx, clientCA) },
		func() error {
			_, err := lab.teleport.tctl(ctx, "", "tokens", "add", "--type=trusted_cluster", "--value="+token, "--ttl=10m")
			return err
		},
		func() error {
			return leaf.apply(ctx, fmt.Sprintf(`kind: trusted_cluster
version: v2
metadata: {name: %s}
spec:
  enabled: true
  token: %s
  tunnel_addr: %[3]s
  web_proxy_addr: %[3]s
  role_map: [{remote: %[4]s, local: [%[4]s]}]
`, lab.teleport.cfg.cluster, token, lab.teleport.addr(), roleDB))
		},
	} {
		if err := step(); err != nil {
			t.Fatalf("leaf cluster: %v\n%s", err, leaf.proc.tail())
		}
	}
	return leaf
}
