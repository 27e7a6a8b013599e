//go:build e2e && linux

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"berth/agent/state"
)

// TestDoctor: a healthy berth is found healthy, step by step up to the real
// proxy and through a tunnel, and a logout is named.
func TestDoctor(t *testing.T) {
	p := newPerson(t, roleDB)
	p.login()
	p.startAgent()
	p.addTunnel("pg")
	p.awaitReady("pg")
	r := p.tryBerth("doctor")
	for _, want := range []string{" is reached and trusted, and the clocks agree", "ok    tsh 16.", "ok    tunnel pg: ", " answers, and lets app in\n"} {
		if !strings.Contains(string(r.out), want) {
			t.Errorf("no %q", want)
		}
	}
	if r.code != 0 {
		t.Errorf("exit code %d", r.code)
	}
	p.logout()
	after := p.tryBerth("doctor")
	if !strings.Contains(string(after.out), "berth login ") {
		t.Errorf("the logout is not named:\n%s", after.out)
	}
	if t.Failed() {
		t.Logf("%s%s", r.out, r.err)
	}
}

// TestDoctorLogsIn: what Teleport says to a login is reported, for a user whom one
// may not be, a database that is down, and one whose name does not resolve.
func TestDoctorLogsIn(t *testing.T) {
	startRedis(t, "re-doctor")
	startMariaDB(t, "my-doctor")
	for _, protocol := range []string{"postgres", "mysql", "redis"} {
		offer(t, protocol+"-nowhere", protocol, map[string]string{"redis": "rediss://"}[protocol]+"db.nowhere.invalid:4242")
	}
	if err := lab.teleport.apply(t.Context(), fmt.Sprintf(roleTemplate, roleRedis, "'*': '*'", "default")); err != nil {
		t.Fatal(err)
	}
	p := newPerson(t, roleDB, roleRedis)
	p.login()
	var lines []string
	add := func(name, resource, user, database string) {
		lines = append(lines, fmt.Sprintf("  - {name: %s, kind: db, cluster: ref.test, resource: %s, db_user: %s, db_name: %q, port: %d}",
			name, resource, user, database, mustFreePort(t)))
	}
	want := make(map[string]string)
	for _, c := range []struct{ protocol, well, away, user, database, refused, nameless string }{
		{"postgres", "pg", "pg-away", "app", "appdb", "connection refused", "failed to handle client connection"},
		{"mysql", "my-doctor", "my-away", "app", "appdb", "connection refused", "failed to handle client connection"},
		{"redis", "re-doctor", "re-away", "default", "", "failed to connect to the target database", "no answer within"}, // it tries for some seconds
	} {
		add(c.protocol+"-well", c.well, c.user, c.database)
		add(c.protocol+"-wrong", c.well, "stranger", c.database)
		add(c.protocol+"-away", c.away, c.user, c.database)
		add(c.protocol+"-nameless", c.protocol+"-nowhere", c.user, c.database)
		want[c.protocol+"-well"] = "answers"
		want[c.protocol+"-wrong"] = "access to db denied"
		want[c.protocol+"-away"] = c.refused
		want[c.protocol+"-nameless"] = c.nameless
	}
	// Of these there is no server here, but Teleport's refusal.
	for _, c := range []struct{ protocol, uri, wrong, away string }{
		{"mongodb", "mongodb://127.0.0.1:1", "access to db denied", "no answer within"}, // Teleport tries for half a minute
		{"cassandra", "127.0.0.1:1", "access to db denied", "connection refused"},
		{"clickhouse", "clickhouse://127.0.0.1:1", "database hung up", "database hung up"}, // Teleport says nothing in this protocol
	} {
		offer(t, c.protocol+"-dead", c.protocol, c.uri)
		add(c.protocol+"-wrong", c.protocol+"-dead", "stranger", "")
		add(c.protocol+"-away", c.protocol+"-dead", "app", "")
		want[c.protocol+"-wrong"], want[c.protocol+"-away"] = c.wrong, c.away
	}
	p.startAgent(append([]string{"tunnels:"}, lines...)...)
	for name := range want {
		p.berth("tunnel", "stop", name)
	}
	for _, protocol := range []string{"postgres", "mysql", "redis", "mongodb", "cassandra", "clickhouse"} {
		t.Run(protocol, func(t *testing.T) {
			these := make(map[string]string) // one protocol's: a login of each at once is much for a busy machine
			for name, words := range want {
				if strings.HasPrefix(name, protocol+"-") {
					these[name] = words
					p.berth("tunnel", "start", name)
				}
			}
			p.doctorSays(t, these)
			for name := range these {
				p.berth("tunnel", "stop", name)
			}
		})
	}
}

// doctorSays checks what doctor says of tunnels, and that it changes none of them.
func (p *person) doctorSays(t *testing.T, want map[string]string) {
	t.Helper()
	// Doctor gives each tunnel 3 s, which is little for a Teleport on a busy machine,
	// and so are the seconds after which the whole proxy counts as away.
	late := func(out string) bool {
		for line := range strings.Lines(out) {
			if strings.Contains(line, "does not answer: no answer in time") {
				return true
			}
			for name, words := range want {
				if strings.Contains(line, "tunnel "+name+" ") && strings.Contains(line, "no answer") && !strings.Contains(line, words) {
					return true
				}
			}
		}
		return false
	}
	var r result
	for range 10 {
		for name := range want {
			p.awaitReady(name)
		}
		if r = p.tryBerth("doctor"); !late(r.out) {
			break
		}
	}
	for name, words := range want {
		found := false
		for line := range strings.Lines(r.out) {
			if strings.Contains(line, "tunnel "+name) {
				found = true
				t.Logf("%s", strings.TrimSpace(line))
				if ok := strings.HasPrefix(line, "ok"); !strings.Contains(line, words) || ok != strings.HasSuffix(name, "-well") {
					t.Errorf("doctor on %s does not say %q: %s", name, words, line)
				}
			}
		}
		if !found {
			t.Errorf("doctor says nothing of %s:\n%s", name, r.out)
		}
		tun := p.tunnel(name)
		late := tun.Problem != nil && tun.Problem.Code == state.CodeProxyUnreachable // by the seconds above
		if tun.State != state.TunnelReady && !late {
			t.Errorf("after doctor the tunnel %s is %s, %s", name, tun.State, problemText(tun.Problem))
		}
	}
}

const roleRedis = "db-redis" // every database, user default
