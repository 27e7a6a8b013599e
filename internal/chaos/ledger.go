package main

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// loss is a kind of connection that may be lost.
type loss uint8

const (
	// fresh is a connection that is being made.
	fresh loss = 1 << iota
	// open is a connection that was made before, and has answered.
	open
	none loss = 0
)

// errWrong is an answer that is not the right one: what no fault allows.
var errWrong = errors.New("wrong answer")

// errRefused is an answer that says that there will be none: it is lost as a new
// connection is, on whatever connection it was asked for.
var errRefused = errors.New("refused")

// window is the time of one fault.
type window struct {
	fault  string
	allows loss
	settle time.Duration // how long after its end losses still count as its own
	begin  time.Time
	end    time.Time // zero while the fault is there
}

// covers reports whether the fault was there, or had only just ended, at some
// moment between two others.
func (w *window) covers(from, to time.Time) bool {
	return !w.begin.After(to) && (w.end.IsZero() || !w.end.Add(w.settle).Before(from))
}

// deed is one thing that a client did.
type deed struct {
	client     string
	kind       loss
	program    bool      // whether a program had to start for it, which takes its own time
	since      time.Time // from when on what it did could be harmed: its beginning, or the last answer
	begin, end time.Time
	err        error
}

// lost is a deed that failed, and whether a fault allows it.
type lost struct {
	Client  string    `json:"client"`
	Fault   string    `json:"fault"` // the last that had begun; empty means none
	Wrong   bool      `json:"wrong"`
	Allowed bool      `json:"allowed"`
	Open    bool      `json:"open"` // whether the connection had answered before
	At      time.Time `json:"at"`
	After   float64   `json:"after_s"` // seconds that the client waited
	Error   string    `json:"error"`
}

// ledger holds what every client did. Its methods may be called by many.
type ledger struct {
	mu         sync.Mutex
	windows    []*window
	clients    map[string]*account
	lost       []lost
	recoveries map[string][]time.Duration // of clients, by fault
	readied    map[string][]time.Duration // of all tunnels, by fault
	affected   map[string]map[string]bool // by fault: clients
}

// account is what is known of one client.
type account struct {
	Asked  int // answers that were wanted
	down   bool
	wanted time.Time     // while down: since when it has wanted an answer in vain
	usual  time.Duration // what it takes, about
	freed  *window       // the last window of which it has recovered
}

func newLedger() *ledger {
	return &ledger{
		clients:    make(map[string]*account),
		recoveries: make(map[string][]time.Duration), readied: make(map[string][]time.Duration),
		affected: make(map[string]map[string]bool),
	}
}

// start notes that a fault begins now.
func (l *ledger) start(fault string, allows loss, settle time.Duration) *window {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &window{fault: fault, allows: allows, settle: settle, begin: time.Now()}
	l.windows = append(l.windows, w)
	return w
}

// stop notes that the fault's cause is gone.
func (l *ledger) stop(w *window) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.end = time.Now()
}

// add enters a deed.
func (l *ledger) add(d deed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.clients[d.client]
	if a == nil {
		a = &account{}
		l.clients[d.client] = a
	}
	a.Asked++
	if d.err != nil {
		l.fail(a, d)
		return
	}
	took := d.end.Sub(d.begin)
	slow := a.usual > 0 && took > 2*a.usual+slowBy
	w := l.ended()
	if w != nil && a.freed != w && !d.program && (a.down || slow) && d.end.After(w.end) && d.begin.Before(w.end.Add(w.settle)) {
		wanted := d.begin
		if a.down {
			wanted = a.wanted
		}
		if wanted.Before(w.end) {
			wanted = w.end
		}
		l.recoveries[w.fault] = append(l.recoveries[w.fault], d.end.Sub(wanted))
		l.touch(w.fault, d.client)
		a.freed = w
	}
	a.down = false
	if !slow {
		a.usual = (7*a.usual + took) / 8
	}
}

// slowBy is how much longer than usual an answer takes that a fault held up.
const slowBy = 250 * time.Millisecond

// ended returns the fault that has ended last; nil while there is one, or was none.
func (l *ledger) ended() (last *window) {
	for _, w := range l.windows {
		if w.end.IsZero() {
			return nil
		}
		if last == nil || !w.end.Before(last.end) {
			last = w
		}
	}
	return last
}

// ready notes how long after a fault's end all tunnels were ready.
func (l *ledger) ready(fault string, after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readied[fault] = append(l.readied[fault], after)
}

func (l *ledger) fail(a *account, d deed) {
	if !a.down {
		a.down, a.wanted = true, d.begin
	}
	entry := lost{
		Client: d.client, Wrong: errors.Is(d.err, errWrong), Open: d.kind == open,
		At: d.end, After: d.end.Sub(d.begin).Seconds(), Error: d.err.Error(),
	}
	if len(l.windows) > 0 {
		entry.Fault = l.windows[len(l.windows)-1].fault
	}
	if errors.Is(d.err, errRefused) {
		d.kind, d.since = fresh, d.begin
	}
	// A fault that allows it answers for it, even where another one began since.
	for _, w := range slices.Backward(l.windows) {
		if !entry.Wrong && w.allows&d.kind != 0 && w.covers(d.since, d.end) {
			entry.Fault, entry.Allowed = w.fault, true
			break
		}
	}
	if entry.Fault != "" {
		l.touch(entry.Fault, d.client)
	}
	l.lost = append(l.lost, entry)
}

func (l *ledger) touch(fault, client string) {
	if l.affected[fault] == nil {
		l.affected[fault] = make(map[string]bool)
	}
	l.affected[fault][client] = true
}

// down returns the clients whose last answer was not right.
func (l *ledger) down() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for name, a := range l.clients {
		if a.down {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// asked is how many answers were wanted in all.
func (l *ledger) asked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, a := range l.clients {
		n += a.Asked
	}
	return n
}
