//go:build e2e && linux

package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/relay"
)

// farDelay is half of the round trip between a person and the proxy.
const farDelay = 40 * time.Millisecond

// newFarPerson makes a user who is logged in, on a machine far from the proxy.
func newFarPerson(t *testing.T, roles ...string) (*person, *relay.Relay) {
	t.Helper()
	p := newPerson(t, roles...)
	away, err := relay.Start(relay.Config{To: p.at.addr(), Delay: farDelay})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(away.Close)
	p.login()
	p.via = away.Addr()
	// tsh writes the address that the proxy names as its own.
	profile := filepath.Join(p.tshHome, "127.0.0.1.yaml")
	text, err := os.ReadFile(profile)
	if err != nil {
		t.Fatal(err)
	}
	moved := strings.ReplaceAll(string(text), p.at.addr(), p.via)
	if !strings.Contains(moved, "web_proxy_addr: "+p.via) {
		t.Fatalf("the profile names another proxy:\n%s", text)
	}
	if err := os.WriteFile(profile, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	return p, away
}

// times is how long the same took each time, sorted.
type times []time.Duration

func (ts *times) add(took time.Duration) {
	at, _ := slices.BinarySearchFunc(*ts, took, cmp.Compare[time.Duration])
	*ts = slices.Insert(*ts, at, took)
}

func (ts times) at(share float64) time.Duration { return ts[int(share*float64(len(ts)-1)+0.5)] }

func (ts times) String() string {
	round := func(share float64) time.Duration { return ts.at(share).Round(time.Millisecond) }
	return fmt.Sprintf("min %v, median %v, p95 %v, max %v of %d", round(0), round(0.5), round(0.95), round(1), len(ts))
}

// TestFar: at a distance of 80 ms "psql -c 'select 1'" takes at most 0.6 of what it
// takes through "tsh proxy db --tunnel", and what makes the difference leaves no
// trace in the audit log. On a busy machine, where both wait for the processor, the
// ratio is reported only.
func TestFar(t *testing.T) {
	const rounds, each = 5, 8
	p, away := newFarPerson(t, roleDB)
	p.startAgent()
	p.addTunnel("far")
	p.awaitReady("far")
	urls := map[string]string{
		"berth": strings.TrimSpace(p.berth("tunnel", "url", "far")),
		"tsh":   fmt.Sprintf("postgres://app@%s/appdb", p.startTSHTunnel("--db-user=app", "--db-name=appdb", "pg")),
	}
	one := func(name string) time.Duration {
		began := time.Now()
		if r := p.psql(urls[name], "select 1"); r.code != 0 || strings.TrimSpace(r.out) != "1" {
			t.Fatalf("%s: %+v", name, r)
		}
		return time.Since(began)
	}
	for _, name := range []string{"berth", "tsh"} {
		t.Logf("%s, the first client: %v", name, one(name).Round(time.Millisecond))
	}
	took := map[string]*times{"berth": {}, "tsh": {}}
	for range rounds {
		for _, name := range []string{"berth", "tsh"} {
			for range each {
				sleepUntil(t.Context(), time.Now().Add(300*time.Millisecond)) // as between a person's commands
				took[name].add(one(name))
			}
		}
	}
	for _, name := range []string{"berth", "tsh"} {
		t.Logf("%s: %s", name, took[name])
	}
	for _, share := range []float64{0.5, 0.95} {
		berth, tsh := took["berth"].at(share), took["tsh"].at(share)
		ratio := float64(berth) / float64(tsh)
		t.Logf("at %v of all: %.2f × tsh, on a machine with a load of %.1f", share, ratio, load(t))
		if ratio > 0.6 && load(t) < float64(runtime.NumCPU()) {
			t.Errorf("at %v of all berth takes %v, %.2f × tsh's %v", share, berth, ratio, tsh)
		}
	}

	// In a minute of silence warm connections come and go.
	silent := len(away.Connections())
	sleepUntil(t.Context(), time.Now().Add(time.Minute))
	if n := len(away.Connections()) - silent; n < 2 {
		t.Errorf("%d connections were made in a minute of silence, want those that are kept warm", n)
	}
	clients := 2 * (rounds*each + 1)
	for _, kind := range []string{"db.session.start", "db.session.end"} {
		if n := auditEvents(t, p, kind); n != clients {
			t.Errorf("the audit log has %d %s for %d clients", n, kind, clients)
		}
	}
}

// load is how many programs wanted a processor in the last minute.
func load(t *testing.T) float64 {
	t.Helper()
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	var last float64
	if _, err := fmt.Sscan(string(text), &last); err != nil {
		t.Fatal(err)
	}
	return last
}

// auditEvents counts a user's events of a kind in the audit log.
func auditEvents(t *testing.T, p *person, kind string) int {
	t.Helper()
	n := 0
	for _, e := range auditLog(t, p) {
		if e.Event == kind && e.User == p.name {
			n++
		}
	}
	return n
}

// auditEvent is what the tests read of an event in the audit log.
type auditEvent struct{ Event, User, UID string }

// auditLog are the events of everyone in the audit log of a person's cluster.
func auditLog(t *testing.T, p *person) []auditEvent {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(p.at.dir, "data", "log", "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("the audit log: %q, %v", logs, err)
	}
	var list []auditEvent
	seen := make(map[string]bool) // one of the files is a link to another
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var e auditEvent
			if json.Unmarshal([]byte(line), &e) == nil && !seen[e.UID] {
				seen[e.UID] = true
				list = append(list, e)
			}
		}
	}
	return list
}
