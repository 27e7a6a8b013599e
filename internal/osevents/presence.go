package osevents

import (
	"context"
	"sync"
	"time"
)

// Presence says whether the user is at the machine, as far as the system knows.
type Presence struct {
	// Locked reports whether the screen is locked or belongs to another user;
	// LockKnown whether the system could tell.
	Locked, LockKnown bool
	// Idle is the time since the user last touched the machine; IdleKnown
	// reports whether the system could tell.
	Idle      time.Duration
	IdleKnown bool
}

// askTimeout bounds a question that Presence asks the desktop.
const askTimeout = 500 * time.Millisecond

// Presence says whether the user is there. It may ask the desktop, which takes
// half a second at the very most.
func (m *Monitor) Presence() Presence {
	var p Presence
	p.Locked, p.LockKnown = m.lock.state()
	p.Idle, p.IdleKnown = m.idle.state()
	askSystem(&p)
	return p
}

// lockRequestLasts is how long a request to lock the screen counts as a lock:
// in that time a program that locks says that it has.
const lockRequestLasts = 10 * time.Second

// lockState joins what several sources say of the lock: the screen is locked
// when one of them says so.
type lockState struct {
	tell func(Event) <-chan struct{}

	mu       sync.Mutex // guards what follows
	by       map[string]bool
	reported bool
	request  *time.Timer
}

// set takes what a source says.
func (l *lockState) set(source string, locked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil {
		l.by = make(map[string]bool)
	}
	l.by[source] = locked
	l.tellLocked(source)
}

// forget drops what a source said that has gone.
func (l *lockState) forget(source string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.by, source)
	l.tellLocked(source)
}

// requested takes a request to lock, which not every desktop follows.
func (l *lockState) requested(source string) {
	l.cancelRequest(source)
	l.set(source, true)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.request = time.AfterFunc(lockRequestLasts, func() { l.forget(source) })
}

// cancelRequest takes the opposite.
func (l *lockState) cancelRequest(source string) {
	l.stop()
	l.forget(source)
}

func (l *lockState) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.request != nil {
		l.request.Stop()
	}
}

func (l *lockState) tellLocked(source string) {
	locked := l.isLocked()
	if locked == l.reported {
		return
	}
	l.reported = locked
	kind := Unlocked
	if locked {
		kind = Locked
	}
	l.tell(Event{Kind: kind, Source: source})
}

// isLocked needs l.mu held.
func (l *lockState) isLocked() bool {
	for _, locked := range l.by {
		if locked {
			return true
		}
	}
	return false
}

func (l *lockState) state() (locked, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.isLocked(), len(l.by) > 0
}

// idleState joins what several sources say of the user's last input: the most
// recent one counts.
type idleState struct {
	mu sync.Mutex // guards by
	by map[string]func(context.Context) (time.Duration, bool)
}

// set names a source that can be asked; nil means that it has gone.
func (s *idleState) set(source string, ask func(context.Context) (time.Duration, bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = make(map[string]func(context.Context) (time.Duration, bool))
	}
	if ask == nil {
		delete(s.by, source)
		return
	}
	s.by[source] = ask
}

func (s *idleState) state() (idle time.Duration, known bool) {
	s.mu.Lock()
	asks := make([]func(context.Context) (time.Duration, bool), 0, len(s.by))
	for _, ask := range s.by {
		asks = append(asks, ask)
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	for _, ask := range asks {
		if d, ok := ask(ctx); ok && (!known || d < idle) {
			idle, known = max(0, d), true
		}
	}
	return idle, known
}
