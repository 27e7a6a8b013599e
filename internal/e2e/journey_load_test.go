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
	const (
		seconds  = 60
		renewals = 5
	)
	p := newPerson(t, roleDB)
	p.login()
	p.startAgent()
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
	ctx, cancel := context.WithTimeout(t.Context(), (seconds+60)*time.Second)
	defer cancel()
	if _, err := pgbench(ctx, "-i", "-q", "-s", "4"); err != nil {
		t.Fatal(err)
	}

	watch := p.watch()
	k := knock(t, addr)
	type report struct {
		text string
		err  error
	}
	runs := map[string]chan report{"a new connection each time": make(chan report, 1), "four that stay": make(chan report, 1)}
	for name, extra := range map[string][]string{"a new connection each time": {"-C", "-S"}, "four that stay": nil} {
		go func() {
			text, err := pgbench(ctx, append([]string{"-n", "-c", "4", "-T", fmt.Sprint(seconds)}, extra...)...)
			runs[name] <- report{text, err}
		}()
	}
	for i := range renewals {
		sleepUntil(ctx, time.Now().Add(time.Second*seconds/(renewals+1)))
		before := p.tunnel("bench").CertValidUntil
		installed := p.stagedLogin(fmt.Sprintf("--ttl=%d", 600-60*i)) // each session ends earlier than the last, so the times differ
		shown := watch.await(installed, 10*time.Second, "bench", "ready with another cert", newCert(before))
		t.Logf("renewal %d: files moved -> new cert: %s", i+1, shown.Sub(installed).Round(time.Millisecond))
	}
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
