//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/agent/state"
)

// TestRenewalsOfAShortSession lives with sessions of two minutes: pgbench runs
// across five renewals by "berth login --renew", in a terminal, with a new
// connection for each transaction and with four that stay. Not one error, and
// tsh finds a valid session at every moment.
func TestRenewalsOfAShortSession(t *testing.T) {
	const (
		renewals = 5
		every    = 45 * time.Second
		seconds  = int((renewals + 1) * every / time.Second)
	)
	p := newPerson(t, roleDB)
	p.startAgent()
	if screen := p.berthLogin("--ttl", "2m"); !strings.Contains(screen, "logged in to "+lab.teleport.addr()+" as "+p.name) {
		t.Errorf("berth login says:\n%s", screen)
	}
	addr := p.addTunnel("bench")
	p.awaitReady("bench")
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	pgbench := func(ctx context.Context, args ...string) (string, error) {
		args = append([]string{"-h", host, "-p", port, "-U", "app"}, args...)
		return mustRun(ctx, environment("HOME="+p.dir), "", filepath.Join(lab.postgres.bin, "pgbench"), append(args, "appdb")...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds+60)*time.Second)
	defer cancel()
	if _, err := pgbench(ctx, "-i", "-q", "-s", "4"); err != nil {
		t.Fatal(err)
	}

	watch := p.watch()
	k := knock(t, addr)
	asked := p.askTSHAllTheTime(ctx)
	type report struct {
		name, text string
		err        error
	}
	runs := make(chan report, 2)
	for name, extra := range map[string][]string{"a new connection each time": {"-C", "-S"}, "four that stay": nil} {
		go func() {
			text, err := pgbench(ctx, append([]string{"-n", "-c", "4", "-T", fmt.Sprint(seconds)}, extra...)...)
			runs <- report{name, text, err}
		}()
	}
	for i := range renewals {
		sleepUntil(ctx, time.Now().Add(every))
		before := p.tunnel("bench").CertValidUntil
		begin := time.Now()
		p.berthLogin("--renew", "--ttl", "2m")
		shown := watch.await(begin, 10*time.Second, "bench", "ready with another cert", newCert(before))
		t.Logf("renewal %d: berth login --renew -> new cert: %s", i+1, shown.Sub(begin).Round(time.Millisecond))
	}
	for range 2 {
		r := <-runs
		if r.err != nil || !strings.Contains(r.text, "number of failed transactions: 0 (") {
			t.Errorf("pgbench, %s: %v\n%s", r.name, r.err, r.text)
			continue
		}
		t.Logf("pgbench, %s: %s", r.name, figures(r.text))
	}
	k.check(t)
	t.Logf("tsh status was asked %d times and found a valid session each time", asked(t))
	if tun := p.tunnel("bench"); tun.LastErrorAt != nil {
		t.Errorf("status says that a connection failed at %v", tun.LastErrorAt)
	}
}

// askTSHAllTheTime runs "tsh status" until the returned function is called,
// which says how often and fails the test if once there was no valid session.
func (p *person) askTSHAllTheTime(ctx context.Context) func(*testing.T) int {
	p.t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var times int
	var bad []string
	wg.Go(func() {
		for ctx.Err() == nil {
			r, err := run(ctx, p.env(p.tshHome), "", filepath.Join(lab.bin, "tsh"), "status")
			if ctx.Err() != nil {
				return
			}
			if times++; err != nil || r.code != 0 || strings.Contains(r.out, "EXPIRED") {
				bad = append(bad, fmt.Sprintf("%s: exit code %d, %v\n%s%s", time.Now().Format(time.TimeOnly), r.code, err, r.out, r.err))
			}
			sleepUntil(ctx, time.Now().Add(500*time.Millisecond))
		}
	})
	return func(t *testing.T) int {
		cancel()
		wg.Wait()
		for _, b := range bad {
			t.Errorf("tsh status at %s", b)
		}
		return times
	}
}

// TestFiftyClientsOneLogin starts fifty psql on five tunnels while the session
// has expired: one login serves them all.
func TestFiftyClientsOneLogin(t *testing.T) {
	const clients, tunnels = 50, 5
	p := newPerson(t, roleDB)
	p.login("--ttl=1")
	p.startAgent()
	var links []string
	for i := range tunnels {
		name := fmt.Sprintf("db%d", i)
		p.addTunnel(name)
		p.awaitReady(name)
		links = append(links, p.berth("tunnel", "url", name))
	}
	watch := p.watch()
	watch.await(time.Now(), 90*time.Second, "db4", "waiting for a login", waitsForLogin)
	results := make(chan result, clients)
	for i := range clients {
		go func() { results <- p.psql(links[i%tunnels], fmt.Sprintf("select 'client %d'", i)) }()
	}
	err := until(t.Context(), 30*time.Second, 100*time.Millisecond, func() error {
		var held int64
		for _, tun := range p.snapshot().Tunnels {
			held += tun.Waiting
		}
		if held != clients {
			return fmt.Errorf("%d clients are held", held)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	p.berthLogin()
	served := make(map[string]bool)
	for range clients {
		r := <-results
		if r.code != 0 {
			t.Errorf("psql: exit code %d\n%s", r.code, r.err)
		}
		served[strings.TrimSpace(r.out)] = true
	}
	if len(served) != clients {
		t.Errorf("%d clients got their own answer, want %d", len(served), clients)
	}
	t.Logf("%d psql served %s after the login began", clients, time.Since(begin).Round(time.Millisecond))
	log, err := os.ReadFile(p.agent.log)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), "tsh login runs"); n != 1 {
		t.Errorf("tsh login ran %d times, want once", n)
	}
}

// TestRefusedClientIsTold: psql on a tunnel that may not hold prints which
// tunnel it is and what to run.
func TestRefusedClientIsTold(t *testing.T) {
	p := newPerson(t, roleDB)
	p.login()
	p.startAgent()
	p.addTunnel("prod", "--hold", "0s")
	p.awaitReady("prod")
	link := p.berth("tunnel", "url", "prod")
	watch := p.watch()
	begin := time.Now()
	p.logout()
	watch.await(begin, 10*time.Second, "prod", "waiting for a login", func(tun state.Tunnel) bool {
		return tun.State == state.TunnelWaitingForLogin
	})
	r := p.psql(link, "select 1")
	for _, want := range []string{`"prod"`, "berth login " + lab.teleport.addr()} {
		if r.code == 0 || !strings.Contains(r.err, want) {
			t.Errorf("psql (exit code %d) prints, without %q:\n%s", r.code, want, r.err)
		}
	}
	t.Logf("psql prints:\n%s", strings.TrimSpace(r.err))
}
