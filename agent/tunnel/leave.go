package tunnel

import (
	"context"
	"net"
	"sync"
	"time"

	"berth/agent/tunnel/history"
	"berth/proxies"
)

// Past is what a tunnel's users have seen so far, for the process that goes on with
// it.
type Past struct {
	Count
	History history.Saved `json:"history"`
}

// Count is what a tunnel's connections add up to.
type Count struct {
	Connections int64 `json:"connections,omitempty"`
	BytesIn     int64 `json:"bytes_in,omitempty"`
	BytesOut    int64 `json:"bytes_out,omitempty"`
}

func (c Count) plus(d Count) Count {
	return Count{c.Connections + d.Connections, c.BytesIn + d.BytesIn, c.BytesOut + d.BytesOut}
}

// since returns what was added to before; nothing, if the count began anew.
func (c Count) since(before Count) Count {
	return Count{
		max(0, c.Connections-before.Connections), max(0, c.BytesIn-before.BytesIn), max(0, c.BytesOut-before.BytesOut),
	}
}

// Succession is how the tunnels of a Set pass from one process to the next.
type Succession struct{ set *Set }

// Pasts returns what there is to go on with, by tunnel.
func (n Succession) Pasts() map[string]Past {
	pasts, counts := make(map[string]Past), make(map[string]Count)
	for _, e := range n.set.listed() {
		p := Past{Count: e.count(), History: n.set.book.Of(e.spec.Name).Save()}
		pasts[e.spec.Name], counts[e.spec.Name] = p, p.Count
	}
	n.set.mu.Lock()
	n.set.passedOn = counts
	n.set.mu.Unlock()
	return pasts
}

// Since returns what was counted, by tunnel, since it or Pasts was called last:
// connections that stay here go on, and the process that has taken over counts for
// both.
func (n Succession) Since() map[string]Count {
	now := make(map[string]Count)
	for _, e := range n.set.listed() {
		now[e.spec.Name] = e.count()
	}
	n.set.mu.Lock()
	defer n.set.mu.Unlock()
	added := make(map[string]Count)
	for name, count := range now {
		if more := count.since(n.set.passedOn[name]); more != (Count{}) {
			added[name] = more
		}
	}
	n.set.passedOn = now
	return added
}

// Add counts what a process before has counted since this one took over.
func (n Succession) Add(counts map[string]Count) {
	n.set.mu.Lock()
	defer n.set.mu.Unlock()
	for _, e := range n.set.entries {
		e.past.Count = e.past.plus(counts[e.spec.Name])
	}
}

// count is what the tunnel's connections add up to, here and in the processes before.
func (e entry) count() Count {
	if e.t == nil {
		return e.past.Count
	}
	px := e.t.px.Status()
	return e.past.plus(Count{px.TotalConnections, px.BytesIn, px.BytesOut})
}

// GoOn makes pasts those of the tunnels that Start makes.
func (n Succession) GoOn(pasts map[string]Past) {
	n.set.mu.Lock()
	n.set.pasts = pasts
	n.set.mu.Unlock()
	for name, p := range pasts {
		n.set.book.Of(name).Restore(p.History, p.BytesIn, p.BytesOut)
	}
}

// Adopt serves a client that the process before has handed over, and reports
// whether there is a tunnel for it.
func (n Succession) Adopt(name string, client *net.TCPConn, said []byte) bool {
	t := n.set.tunnel(name)
	if t == nil {
		return false
	}
	px, ok := t.px.(interface {
		Adopt(client *net.TCPConn, said []byte)
	})
	if ok {
		px.Adopt(client, said)
	}
	return ok
}

// Adopted is called when the process before has handed over every client that it
// could: those at the addresses.
func (n Succession) Adopted(addrs map[string]bool) {
	for _, e := range n.set.listed() {
		n.set.book.Of(e.spec.Name).KeepHeld(addrs)
	}
}

// Open returns how many connections are open.
func (n Succession) Open() (connections int) {
	for _, t := range n.set.running() {
		connections += t.px.Status().Connections
	}
	return connections
}

// Close closes the connections of a tunnel, or of all for an empty name.
func (n Succession) Close(name string) {
	for _, t := range n.set.running() {
		if name == "" || t.spec.Name == name {
			t.px.CloseConnections()
		}
	}
}

// Leave gives every tunnel's place to another process, which gets its clients by
// move. It calls moved when no further client is handed over, and returns when the
// last connection has ended or grace is over. No tunnel is started or stopped from
// then on.
func (n Succession) Leave(grace time.Duration, move func(tunnel string) proxies.Move, moved func()) {
	n.set.turn.Take(context.Background())
	defer n.set.turn.Give()
	n.set.cfg.Kube.Leave(grace)
	var moving, serving sync.WaitGroup
	for _, e := range n.set.listed() {
		if e.t == nil {
			continue
		}
		moving.Add(1)
		serving.Go(func() {
			calm := e.t.px.Leave(grace, move(e.spec.Name))
			moving.Done()
			<-calm
			e.cancel()
			<-e.done
		})
	}
	moving.Wait()
	moved()
	serving.Wait()
}
