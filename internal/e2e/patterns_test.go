//go:build e2e && linux

package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"berth/internal/patterns"
	"berth/internal/patterns/conformance"
)

// TestPatterns has the three ways of talking to a cluster do the same on a real
// one.
func TestPatterns(t *testing.T) {
	if err := lab.teleport.apply(t.Context(), requestRoles); err != nil {
		t.Fatal(err)
	}
	another := newPerson(t, roleAsker)
	another.login()
	for _, way := range conformance.Ways() {
		t.Run(way.Name, func(t *testing.T) {
			p := newPerson(t, roleAsker, "req-setter") // who sees the requests of others
			p.login()
			act := lab.teleport.acts(p.name)
			do := func(what string) func(*testing.T) {
				return func(t *testing.T) {
					t.Helper()
					if err := act(t.Context(), what); err != nil {
						t.Fatal(err)
					}
				}
			}
			var all []patterns.Database
			for _, name := range []string{"my-away mysql", "pg postgres", "pg-away postgres", "re-away redis"} {
				name, protocol, _ := strings.Cut(name, " ")
				all = append(all, patterns.Database{Name: name, Protocol: protocol})
			}
			conformance.Run(t, way, conformance.World{
				Config: p.patterns(), User: p.name, Databases: all, WebCAs: lab.webCA.pool(), Proxy: p.at.addr(),
				Route: patterns.Route{Database: "pg", Protocol: "postgres", User: "app", Name: "appdb"},
				Ask: func(_ *testing.T, reason string) (string, []string) {
					return p.ask(reason), []string{roleReporter}
				},
				Approve: func(t *testing.T, id string) {
					if _, err := lab.teleport.tctl(t.Context(), "", "request", "approve", id); err != nil {
						t.Fatal(err)
					}
				},
				AskAsAnother: func(*testing.T) { another.ask("not yours") },
				Lock:         do("lock"), Unlock: do("unlock"),
			})
		})
	}
}

// patterns says where the person's login is.
func (p *person) patterns() patterns.Config {
	return patterns.Config{Home: p.tshHome, TSH: p.shell().tsh, CAFile: lab.webCA.file, Poll: time.Second}
}

// ask makes an access request with tsh, and returns its id.
func (p *person) ask(reason string) (id string) {
	p.t.Helper()
	p.tsh("request", "create", "--roles="+roleReporter, "--reason="+reason, "--nowait")
	var list []struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Spec struct {
			Reason  string    `json:"request_reason"`
			Created time.Time `json:"created"`
		} `json:"spec"`
	}
	if err := json.Unmarshal([]byte(p.tsh("request", "ls", "--my-requests", "--format=json")), &list); err != nil {
		p.t.Fatal(err)
	}
	var newest time.Time
	for _, r := range list {
		if r.Spec.Reason == reason && r.Spec.Created.After(newest) {
			id, newest = r.Metadata.Name, r.Spec.Created
		}
	}
	if id == "" {
		p.t.Fatalf("no request %q in %+v", reason, list)
	}
	return id
}
