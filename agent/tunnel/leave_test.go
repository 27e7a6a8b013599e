package tunnel

import (
	"maps"
	"testing"
	"testing/synctest"

	"berth/proxies"
)

// countedPort is a port whose connections have moved something.
type countedPort struct {
	carrier
	status proxies.Status
}

func (p *countedPort) Status() proxies.Status { return p.status }

// TestCountsFollowConnections: what connections move in a process that was replaced
// is counted once in the one that took over, and in the one after that.
func TestCountsFollowConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, done := newSet(t, 0)
		defer done()
		px := &countedPort{set.tunnel("one").px, proxies.Status{TotalConnections: 2, BytesIn: 100, BytesOut: 10}}
		set.tunnel("one").px = px
		leaving := set.Succession()

		next, end := newSet(t, 0)
		defer end()
		is := func(what string, want Count) {
			t.Helper()
			s := next.States()[0]
			if got := (Count{s.TotalConnections, s.BytesIn, s.BytesOut}); got != want {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
		}
		next.Succession().Add(map[string]Count{"one": leaving.Pasts()["one"].Count, "gone": {Connections: 1}})
		is("handed over", Count{2, 100, 10})
		if got := leaving.Since(); len(got) != 0 {
			t.Errorf("nothing has moved: %+v", got)
		}
		px.status = proxies.Status{TotalConnections: 2, BytesIn: 3_000_100, BytesOut: 20}
		next.Succession().Add(leaving.Since())
		is("moved since", Count{2, 3_000_100, 20})

		pasts := next.Succession().Pasts()
		if got := pasts["one"].Count; got != (Count{2, 3_000_100, 20}) {
			t.Errorf("the one after gets %+v", got)
		}
		// What comes from before while the next one hands over it passes on.
		px.status.BytesIn++
		next.Succession().Add(leaving.Since())
		if got := next.Succession().Since(); !maps.Equal(got, map[string]Count{"one": {BytesIn: 1}}) {
			t.Errorf("passed on: %+v", got)
		}
		px.status = proxies.Status{}
		if got := leaving.Since(); len(got) != 0 {
			t.Errorf("a tunnel that began anew: %+v", got)
		}
	})
}
