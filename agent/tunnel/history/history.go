// Package history remembers what happened to each tunnel lately, and words it.
// It learns of states from published snapshots, so that it knows exactly what
// people saw, and of connections from the connections themselves.
package history

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/when"
	"berth/proxies"
	"berth/proxies/db"
)

const (
	// burstGap is how long after the last of them the next refusal or wait
	// still belongs to the same line.
	burstGap = time.Minute
	// quietGap is the same for connections that simply worked: a day of them
	// must not push out the one line that matters.
	quietGap = 15 * time.Minute
	// OneTry is how soon after a refusal the next one still belongs to the same
	// client: psql, for one, tries again without TLS.
	OneTry = 500 * time.Millisecond
)

// Book keeps the history of every tunnel, by name: it outlives the tunnel's
// restarts and changes of its config.
type Book struct {
	names *clientNames
	most  func() int // events that a tunnel remembers

	mu sync.Mutex // guards by
	by map[string]*History
}

// NewBook returns an empty book, in which a tunnel has most() events at most.
func NewBook(most func() int) *Book {
	return &Book{names: newClientNames(), most: most, by: make(map[string]*History)}
}

// Run looks up the programs of clients until ctx ends.
func (hs *Book) Run(ctx context.Context) { hs.names.run(ctx) }

// Of returns the history of a tunnel, begun if there is none.
func (hs *Book) Of(name string) *History {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := hs.by[name]
	if h == nil {
		h = &History{lookup: hs.names.lookup, most: hs.most, held: make(map[string]*entry), opened: make(map[string]*entry)}
		hs.by[name] = h
	}
	return h
}

// Share has a tunnel's history be that of its new name as well.
func (hs *Book) Share(from, to string) {
	h := hs.Of(from)
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hs.by[to] = h
}

// Forget drops the history of a tunnel that is gone.
func (hs *Book) Forget(name string) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	delete(hs.by, name)
}

// Record notes what is new in a snapshot. Snapshots must come in order.
func (hs *Book) Record(s *state.Snapshot, now time.Time) {
	for i := range s.Tunnels {
		hs.mu.Lock()
		h := hs.by[s.Tunnels[i].Name] // nil: removed since the snapshot was drawn
		hs.mu.Unlock()
		if h != nil {
			h.TunnelState(&s.Tunnels[i], now)
		}
	}
}

// History holds the latest events of one tunnel, the oldest first.
type History struct {
	most   func() int
	lookup func(client net.Addr, found func(proxies.Owner))

	mu        sync.Mutex // guards everything below
	entries   []*entry
	held      map[string]*entry // by the address of a client that is held
	opened    map[string]*entry // by the address of a client that waits for its answer
	lastState string            // key of the newest state entry
	certUntil time.Time
	runsAs    string // the user of the newest cert
	plot      plot
}

// Note adds a line that stands for itself.
func (h *History) Note(at time.Time, kind state.EventKind, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.addLocked(&entry{kind: kind, at: at, last: at, text: text})
}

func (h *History) addLocked(e *entry) {
	h.entries = append(h.entries, e)
	if over := len(h.entries) - h.most(); over > 0 {
		h.entries = slices.Delete(h.entries, 0, over)
	}
}

// burstLocked returns the entry that one more event of the key belongs to, or
// a new one. What came before the tunnel's last change of state is left alone:
// the order tells cause from effect.
func (h *History) burstLocked(key entryKey, at time.Time, gap time.Duration) (e *entry, fresh bool) {
	for _, e := range slices.Backward(h.entries) {
		if e.key == key && (e.waiting > 0 || at.Sub(e.last) < gap) {
			return e, false
		}
		if e.kind == state.EventState {
			break
		}
	}
	e = &entry{kind: key.kind, key: key, at: at, last: at}
	h.addLocked(e)
	return e, true
}

// Connection learns from a step in a connection's life. awaited is what a client
// that is held now waits for; problem puts an error into a few words.
func (h *History) Connection(ev proxies.Event, awaited string, problem func(error) string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.plot.connection(ev)
	addr := ev.Client.String()
	waiter := h.held[addr]
	if ev.Kind == proxies.EventAnswered || ev.Kind == proxies.EventClosed {
		defer delete(h.opened, addr)
	}
	switch ev.Kind {
	case proxies.EventAccepted: // a later event says what became of it
	case proxies.EventAnswered:
		refused, ok := errors.AsType[*db.RefusedError](ev.Err)
		if ok {
			h.unopenLocked(ev)
		}
		if ok && !refused.Probe {
			h.refusedLocked(ev, refused)
		}
	case proxies.EventWaiting:
		if waiter != nil {
			return // it was dialled for meanwhile, without success
		}
		e, fresh := h.burstLocked(entryKey{kind: state.EventWaited, awaited: awaited}, ev.At, burstGap)
		h.countLocked(e, fresh, ev)
		e.waiting++
		h.held[addr] = e
	case proxies.EventConnected:
		if waiter != nil {
			h.releaseLocked(waiter, ev)
			return
		}
		e, _ := h.burstLocked(entryKey{kind: state.EventConnected}, ev.At, quietGap) // a client that works needs no name
		h.opened[addr] = e
		e.count++
		e.last = ev.At
	case proxies.EventRefused:
		if waiter != nil {
			waiter.refused++
			h.releaseLocked(waiter, ev)
			return
		}
		if !errors.Is(ev.Err, proxies.ErrStopped) {
			e, fresh := h.burstLocked(entryKey{kind: state.EventRefused, why: problem(ev.Err)}, ev.At, burstGap)
			h.countLocked(e, fresh, ev)
		}
	case proxies.EventClosed:
		if waiter != nil {
			waiter.left++
			h.releaseLocked(waiter, ev)
			return
		}
		if stranger, ok := errors.AsType[*db.StrangerError](ev.Err); ok {
			e, fresh := h.burstLocked(entryKey{kind: state.EventStranger, why: stranger.Error()}, ev.At, burstGap)
			h.countLocked(e, fresh, ev)
			return
		}
		if refused, ok := errors.AsType[*db.RefusedError](ev.Err); ok && !errors.Is(ev.Err, proxies.ErrProbe) {
			h.unopenLocked(ev)
			h.refusedLocked(ev, refused)
			return
		}
		if why := broken(ev.Err); why != "" {
			e, _ := h.burstLocked(entryKey{kind: state.EventBroken, why: why}, ev.At, burstGap)
			e.count++
			e.last = ev.At
		}
	}
}

// refusedLocked notes that the other side has refused a client, in its own words.
func (h *History) refusedLocked(ev proxies.Event, refused *db.RefusedError) {
	key := entryKey{kind: state.EventRefused, by: string(refused.By), why: refused.Words}
	e, fresh := h.burstLocked(key, ev.At, burstGap)
	if ev.At.Sub(e.counted) < OneTry {
		e.last = ev.At
		return
	}
	e.counted = ev.At
	h.countLocked(e, fresh, ev)
}

// unopenLocked takes back a connection that was opened a moment ago: its client
// was not served.
func (h *History) unopenLocked(ev proxies.Event) {
	i := h.opened[ev.Client.String()]
	if i == nil {
		return
	}
	if i.count--; i.count == 0 {
		h.entries = slices.DeleteFunc(h.entries, func(e *entry) bool { return e == i })
	}
}

// countLocked adds a client to an entry, and has the first one's program
// looked up: a burst costs one look-up.
func (h *History) countLocked(e *entry, fresh bool, ev proxies.Event) {
	e.count++
	e.last = ev.At
	if !fresh {
		return
	}
	h.lookup(ev.Client, func(owner proxies.Owner) {
		h.mu.Lock()
		defer h.mu.Unlock()
		e.client = owner.String()
	})
}

// OldestHeld names the program of the client that is held longest; empty while
// no client is held, or its program is not known.
func (h *History) OldestHeld() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var oldest *entry
	for _, e := range h.entries {
		if e.waiting > 0 && (oldest == nil || e.at.Before(oldest.at)) {
			oldest = e
		}
	}
	if oldest == nil {
		return ""
	}
	return oldest.client
}

func (h *History) releaseLocked(e *entry, ev proxies.Event) {
	delete(h.held, ev.Client.String())
	e.waiting--
	e.last = ev.At
	e.longest = max(e.longest, ev.Waited)
}

// What ended connections, and is worded another way than what broke them.
const (
	recycled  = "recycled"
	cutByCert = "cut"
)

// broken says what broke a connection, when it was not its client.
func broken(err error) string {
	var conn *proxies.ConnError
	switch {
	case errors.Is(err, proxies.ErrCertEnded):
		return cutByCert
	case errors.Is(err, proxies.ErrRecycled):
		return recycled
	case errors.Is(err, proxies.ErrProbe): // which says so itself
		return ""
	case errors.Is(err, proxies.ErrClosedEarly):
		return "the other side hung up without an answer"
	case errors.As(err, &conn) && conn.Side == proxies.SideUpstream:
		return conn.Err.Error()
	default:
		return ""
	}
}

// TunnelState notes the tunnel's state and cert, when they differ from the
// last ones noted.
func (h *History) TunnelState(t *state.Tunnel, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.plot.snapshot(t, now)
	if t.CertValidUntil != nil && (!t.CertValidUntil.Equal(h.certUntil) || t.RunsAs != h.runsAs) {
		text := "cert renewed"
		switch {
		case h.certUntil.IsZero():
			text = "first cert fetched"
		case t.RunsAs != "" && h.runsAs != "" && t.RunsAs != h.runsAs:
			text = fmt.Sprintf("runs as %s now, before: %s", plain.Line(t.RunsAs), plain.Line(h.runsAs))
		}
		h.runsAs = t.RunsAs
		h.certUntil = *t.CertValidUntil
		h.addLocked(&entry{kind: state.EventCert, at: now, last: now, text: text, until: t.CertValidUntil})
	}
	if t.State == state.TunnelConnecting {
		return // on its way to the state that is worth a line
	}
	key, text := stateWords(t)
	if key != h.lastState {
		h.lastState = key
		h.addLocked(&entry{kind: state.EventState, key: entryKey{why: key}, at: now, last: now, text: text})
		return
	}
	// The same trouble in better words: whose program has the port is found out
	// later.
	for _, e := range slices.Backward(h.entries) {
		if e.kind == state.EventState {
			e.text = text
			return
		}
	}
}

// stateWords words a tunnel's state. Two states of the same key are the same.
func stateWords(t *state.Tunnel) (key, text string) {
	key = string(t.State)
	switch {
	case t.State == state.TunnelStopped:
		return key, "stopped"
	case t.State == state.TunnelReady && t.Problem == nil:
		key += string(t.Engine)
		if t.Engine == state.EngineTSH {
			return key, "ready, through tsh: " + t.EngineReason
		}
		return key, "ready"
	case t.Problem == nil:
		return key, "waiting for a login"
	default:
		return key + string(t.Problem.Code), strings.TrimSuffix(t.Problem.Text, ".")
	}
}

// Events returns the events, the oldest first.
func (h *History) Events(now time.Time) []state.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	events := make([]state.Event, 0, len(h.entries))
	for _, e := range h.entries {
		events = append(events, e.event(now))
	}
	return events
}

// entryKey says which events share a line.
type entryKey struct {
	kind    state.EventKind
	awaited string // of EventWaited
	why     string // of the others
	by      string // of a refusal by the other side: whose it was
}

// entry is one line of a history: one event, or a burst of the same.
type entry struct {
	kind     state.EventKind
	key      entryKey
	at, last time.Time
	text     string     // of single events: all there is to say
	until    *time.Time // of a cert: its end

	count   int
	counted time.Time     // when count last grew, for refusals by the other side
	client  string        // the first one's program; empty while it is not known
	waiting int           // still held
	refused int           // of those that were held
	left    int           // of those that were held: hung up
	longest time.Duration // of the waits that are over
}

func (e *entry) event(now time.Time) state.Event {
	ev := state.Event{At: e.at.Round(0).UTC(), Kind: e.kind, Text: e.text, Until: e.until}
	if e.count > 1 && e.last.Sub(e.at) >= time.Second {
		ev.Until = state.Instant(e.last)
	}
	if e.count > 0 {
		ev.Text = e.words(now)
	}
	return ev
}

// words says what became of one client or many.
func (e *entry) words(now time.Time) string {
	switch e.kind {
	case state.EventConnected:
		return plural(e.count, "connection") + " opened"
	case state.EventBroken:
		switch e.key.why {
		case recycled:
			return plural(e.count, "idle connection") + " ended politely: the cluster cuts connections at the end of their certificate"
		case cutByCert:
			return plural(e.count, "connection") + " cut by the cluster at the end of the certificate"
		}
		return plural(e.count, "connection") + " broke: " + e.key.why
	case state.EventStranger:
		return e.who() + " " + e.key.why
	case state.EventRefused:
		if e.key.by != "" {
			return e.refusedBy()
		}
		verb := " was refused: "
		if e.count > 1 {
			verb = " were refused: "
		}
		return e.who() + verb + e.key.why
	default:
		return e.waitWords(now)
	}
}

// refusedBy words a refusal in the other side's own words.
func (e *entry) refusedBy() string {
	verb, first := "was", ""
	if e.count > 1 {
		verb, first = "were", "the first was "
	}
	text := fmt.Sprintf("%s %s refused by %s: %s", plural(e.count, "client"), verb, e.key.by, e.key.why)
	if e.client != "" {
		text += " [" + first + e.client + "]"
	}
	return text
}

func (e *entry) waitWords(now time.Time) string {
	what := e.key.awaited
	switch {
	case e.waiting == e.count && e.count == 1:
		return fmt.Sprintf("%s waits for %s, for %s now", e.who(), what, when.Wait(now.Sub(e.at)))
	case e.waiting == e.count:
		return fmt.Sprintf("%s wait for %s, for up to %s now", e.who(), what, when.Wait(now.Sub(e.at)))
	case e.count == 1:
		text := fmt.Sprintf("%s waited %s for %s", e.who(), when.Wait(e.longest), what)
		switch {
		case e.refused > 0:
			text += " and was refused"
		case e.left > 0:
			text += " and hung up"
		}
		return text
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s waited up to %s for %s", e.who(), when.Wait(e.longest), what)
	for _, some := range []struct {
		n    int
		what string
	}{{e.refused, "refused"}, {e.left, "hung up"}, {e.waiting, "still waiting"}} {
		if some.n > 0 {
			fmt.Fprintf(&text, ", %d %s", some.n, some.what)
		}
	}
	return text.String()
}

// who names the client, or the first of many.
func (e *entry) who() string {
	switch {
	case e.count == 1 && e.client == "":
		return "a client"
	case e.count == 1:
		return e.client
	case e.client == "":
		return plural(e.count, "client")
	default:
		return fmt.Sprintf("%d clients, the first of them %s,", e.count, e.client)
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Plot returns the last hour of the tunnel, the oldest first.
func (h *History) Plot(now time.Time) []state.PlotPoint {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.plot.points(now)
}
