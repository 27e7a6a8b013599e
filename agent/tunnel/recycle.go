package tunnel

import (
	"context"
	"fmt"
	"sync"
	"time"

	"berth/agent/sessions"
	"berth/internal/when"
	"berth/proxies"
	"berth/proxies/db"
)

// cutters are the clusters that cut connections at the end of the cert they were
// opened with. The zero value is ready to use.
type cutters struct {
	mu   sync.Mutex // guards seen
	seen map[string]bool
}

func (c *cutters) has(clusterName string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[clusterName]
}

func (c *cutters) note(clusterName string, cuts bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = make(map[string]bool)
	}
	c.seen[clusterName] = cuts
}

// learnCuts notes what a tunnel's cluster says of itself. What a cut has shown
// before stands where the cluster does not say.
func (r *resolver) learnCuts(ctx context.Context, t *tunnel, f sessions.Session) {
	cuts, err := f.Cluster.CutsExpired(ctx, t.spec.Cluster)
	if err != nil {
		r.log.Debug("not known whether the cluster cuts connections", "cluster", t.spec.Cluster, "err", err)
		return
	}
	if cuts {
		t.cuts.note(t.spec.Cluster, true)
	}
}

// recycle returns what follows a connection whose cert ends at end, where the
// cluster would cut it then; nil: nothing does.
func (t *tunnel) recycle(end time.Time) proxies.Rest {
	if !t.spec.Recycles() || !t.cuts.has(t.spec.Cluster) {
		return nil
	}
	proto, ok := db.Lookup(t.protocol())
	if !ok {
		return nil
	}
	rest := proto.Rest(db.Refusal{
		Title: fmt.Sprintf("tunnel %s: this connection's certificate ends at %s", t.spec.Name, when.ClockSeconds(end, time.Now())),
		Text:  "The cluster would cut the connection then, also in the middle of a query. It was idle, so berth has ended it.",
		Hint:  "Connect again: new connections have a newer certificate.",
	})
	if rest == nil {
		return nil
	}
	return rest
}

// renewed reports whether a new connection would last longer than until end.
func (t *tunnel) renewed(end time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cur.validAt(time.Now()) && t.cur.validUntil.After(end.Add(time.Second))
}

// nextEnd returns how many connections the cluster cuts next, and when; zero:
// none that is known of.
func (t *tunnel) nextEnd() (connections int, at time.Time) {
	px, ok := t.px.(interface{ NextEnd() (int, time.Time) })
	if !ok || !t.cuts.has(t.spec.Cluster) {
		return 0, time.Time{}
	}
	return px.NextEnd()
}
