package agent

import (
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"berth/agent/config"
	"berth/agent/state"
	"berth/proxies"
)

const (
	// historyMax is how many events a tunnel remembers.
	historyMax = 50
	// burstGap is how long after the last of them the next refusal or wait
	// still belongs to the same line.
	burstGap = time.Minute
	// quietGap is the same for connections that simply worked: a day of them
	// must not push out the one line somebody looks for.
	quietGap = 15 * time.Minute
)

// histories keeps the history of every tunnel, by name: it outlives the
// tunnel's restarts and changes of its config.
type histories struct {
	names *clientNames

	mu sync.Mutex // guards by
	by map[string]*history
}

func newHistories(names *clientNames) *histories {
	return &histories{names: names, by: make(map[string]*history)}
}

func (hs *histories) of(name string) *history {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := hs.by[name]
	if h == nil {
		h = &history{lookup: hs.names.lookup, held: make(map[string]*entry)}
		hs.by[name] = h
	}
	return h
}

func (hs *histories) forget(name string) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	delete(hs.by, name)
}

// record notes what is new in a snapshot. Snapshots must come in order.
func (hs *histories) record(s *state.Snapshot, now time.Time) {
	for i := range s.Tunnels {
		hs.mu.Lock()
		h := hs.by[s.Tunnels[i].Name] // nil: removed since the snapshot was drawn
		hs.mu.Unlock()
		if h != nil {
			h.tunnelState(&s.Tunnels[i], now)
		}
	}
}

// configChanged notes what the config file made of its tunnels.
func (hs *histories) configChanged(diff config.Changes, before *config.Config) {
	now := time.Now()
	for _, t := range diff.Removed {
		hs.forget(t.Name)
	}
	for _, t := range diff.Added {
		hs.of(t.Name).note(now, state.EventConfig, "added to the config")
	}
	for _, t := range diff.Changed {
		old, _ := before.Tunnel(t.Name)
		hs.of(t.Name).note(now, state.EventConfig, "config changed: "+changedKeys(old, t))
	}
}

// history is what happened to one tunnel: the last historyMax entries, the
// oldest first.
type history struct {
	lookup func(client net.Addr, found func(proxies.Owner))

	mu        sync.Mutex // guards everything below
	entries   []*entry
	held      map[string]*entry // by the address of a client that is held
	lastState string            // key of the newest state entry
	certUntil time.Time
}

// note adds a line that stands for itself.
func (h *history) note(at time.Time, kind state.EventKind, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.addLocked(&entry{kind: kind, at: at, last: at, text: text})
}

func (h *history) addLocked(e *entry) {
	h.entries = append(h.entries, e)
	if over := len(h.entries) - historyMax; over > 0 {
		h.entries = slices.Delete(h.entries, 0, over)
	}
}

// burstLocked returns the entry that one more event of the key belongs to, or
// a new one. What came before the tunnel's last change of state is left alone:
// the order tells cause from effect.
func (h *history) burstLocked(key entryKey, at time.Time, gap time.Duration) (e *entry, fresh bool) {
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

// connection learns from a step in a connection's life. forLogin says that the
// tunnel waits for a login now; problem puts an error into a few words.
func (h *history) connection(ev proxies.Event, forLogin bool, problem func(error) string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	addr := ev.Client.String()
	waiter := h.held[addr]
	switch ev.Kind {
	case proxies.EventAccepted: // what becomes of it is told
	case proxies.EventWaiting:
		e, fresh := h.burstLocked(entryKey{kind: state.EventWaited, forLogin: forLogin}, ev.At, burstGap)
		h.countLocked(e, fresh, ev)
		e.waiting++
		h.held[addr] = e
	case proxies.EventConnected:
		if waiter != nil {
			h.releaseLocked(waiter, ev)
			return
		}
		e, _ := h.burstLocked(entryKey{kind: state.EventConnected}, ev.At, quietGap) // nobody asks who just works
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
		if why := broken(ev.Err); why != "" {
			e, _ := h.burstLocked(entryKey{kind: state.EventBroken, why: why}, ev.At, burstGap)
			e.count++
			e.last = ev.At
		}
	}
}

// countLocked adds a client to an entry, and has the first one's program
// looked up: a burst costs one look-up.
func (h *history) countLocked(e *entry, fresh bool, ev proxies.Event) {
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

// oldestHeld names the program of the client that is held longest; empty while
// nobody is held, or nobody knows.
func (h *history) oldestHeld() string {
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

func (h *history) releaseLocked(e *entry, ev proxies.Event) {
	delete(h.held, ev.Client.String())
	e.waiting--
	e.last = ev.At
	e.longest = max(e.longest, ev.Waited)
}

// broken says what broke a connection, when it was not its client.
func broken(err error) string {
	var conn *proxies.ConnError
	switch {
	case errors.Is(err, proxies.ErrClosedEarly):
		return "the other side hung up without an answer"
	case errors.As(err, &conn) && conn.Side == proxies.SideUpstream:
		return conn.Err.Error()
	default:
		return ""
	}
}

// tunnelState notes the tunnel's state and cert, when they differ from the
// last ones noted.
func (h *history) tunnelState(t *state.Tunnel, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.CertValidUntil != nil && !t.CertValidUntil.Equal(h.certUntil) {
		text := "cert renewed"
		if h.certUntil.IsZero() {
			text = "first cert fetched"
		}
		h.certUntil = *t.CertValidUntil
		h.addLocked(&entry{kind: state.EventCert, at: now, last: now, text: text, until: t.CertValidUntil})
	}
	if t.State == state.TunnelConnecting {
		return // on its way to the state that will be told
	}
	key, text := stateWords(t)
	if key != h.lastState {
		h.lastState = key
		h.addLocked(&entry{kind: state.EventState, key: entryKey{why: key}, at: now, last: now, text: text})
		return
	}
	// The same trouble in better words: who has the port is found out later.
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
		return key + string(t.Problem.Code), trimStop(t.Problem.Text)
	}
}

// list returns the events, the oldest first.
func (h *history) list(now time.Time) []state.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	events := make([]state.Event, 0, len(h.entries))
	for _, e := range h.entries {
		events = append(events, e.event(now))
	}
	return events
}
