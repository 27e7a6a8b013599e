//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestPgbenchOverRenewals runs pgbench for a minute, once with a new
// connection for each transaction and once with four that stay, while the
// session is renewed five times: not one error.
func TestPgbenchOverRenewals(t *testing.T) {
	const renewals = 5
	p, addr := newBencher(t)
	watch := p.watch()
	p.benchOver(addr, time.Minute, func(every func(n int)) {
		for i := range renewals {
			every(renewals)
			before := p.tunnel("bench").CertValidUntil
			installed := p.stagedLogin(fmt.Sprintf("--ttl=%d", 600-60*i)) // each session ends earlier than the last, so the times differ
			shown := watch.await(installed, 10*time.Second, "bench", "ready with another cert", newCert(before))
			t.Logf("renewal %d: files moved -> new cert: %s", i+1, shown.Sub(installed).Round(time.Millisecond))
		}
	})
}

// TestPgbenchOverRestarts is the same while the agent is replaced five times.
func TestPgbenchOverRestarts(t *testing.T) {
	const restarts = 5
	p, addr := newBencher(t)
	p.benchOver(addr, 30*time.Second, func(every func(n int)) {
		for range restarts {
			every(restarts)
			before := p.snapshot().Agent.PID
			p.berth("agent", "restart")
			if pid := p.snapshot().Agent.PID; pid == before {
				t.Errorf("the agent is still process %d", pid)
			}
		}
		t.Logf("status: %s", p.berth("status"))
	})
}

// newBencher is a person whose database has pgbench's tables, and a tunnel to it.
func newBencher(t *testing.T) (p *person, addr string) {
	t.Helper()
	p = newPerson(t, roleDB)
	p.login()
	p.startAgent()
	addr = p.addTunnel("bench")
	p.awaitReady("bench")
	if _, err := p.pgbench(t.Context(), addr, "-i", "-q", "-s", "4"); err != nil {
		t.Fatal(err)
	}
	return p, addr
}

func (p *person) pgbench(ctx context.Context, addr string, args ...string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	args = append([]string{"-h", host, "-p", port, "-U", "app"}, args...)
	return mustRun(ctx, environment("HOME="+p.dir), "", filepath.Join(lab.postgres.bin, "pgbench"), append(args, "appdb")...)
}

// benchOver has pgbench run while something happens n times, each time after every(n),
// and fails the test for the first transaction that is lost.
func (p *person) benchOver(addr string, length time.Duration, happens func(every func(n int))) {
	t := p.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), length+time.Minute)
	defer cancel()
	k := knock(t, addr)
	type report struct {
		text string
		err  error
	}
	runs := map[string]chan report{"a new connection each time": make(chan report, 1), "four that stay": make(chan report, 1)}
	for name, extra := range map[string][]string{"a new connection each time": {"-C", "-S"}, "four that stay": nil} {
		go func() {
			text, err := p.pgbench(ctx, addr, append([]string{"-n", "-c", "4", "-T", fmt.Sprint(length.Seconds())}, extra...)...)
			runs[name] <- report{text, err}
		}()
	}
	happens(func(n int) { sleepUntil(ctx, time.Now().Add(length/time.Duration(n+1))) })
	for name, done := range runs {
		r := <-done
		if r.err != nil || !strings.Contains(r.text, "number of failed transactions: 0 (") {
			t.Errorf("pgbench, %s: %v\n%s", name, r.err, r.text)
			continue
		}
		t.Logf("pgbench, %s: %s", name, figures(r.text))
	}
	k.check(t)
	if tun := p.tunnel("bench"); tun.LastErrorAt != nil {
		t.Errorf("status says that a connection failed at %v", tun.LastErrorAt)
	}
}

func sleepUntil(ctx context.Context, at time.Time) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Until(at)):
	}
}

var pgbenchFigures = regexp.MustCompile(`(?m)^(number of transactions actually processed|number of failed transactions|latency average|average connection time|tps) *[:=] *(.*)$`)

// figures are the lines of pgbench's report worth printing.
func figures(report string) string {
	var found []string
	for _, m := range pgbenchFigures.FindAllStringSubmatch(report, -1) {
		found = append(found, m[1]+" "+m[2])
	}
	return strings.Join(found, "; ")
}
