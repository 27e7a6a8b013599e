package proxies

import (
	"iter"
	"log/slog"
	"sync"
	"time"
)

// Status is the state of a tunnel at one moment.
type Status struct {
	PortStatus
	// Connections counts open client connections, Waiting those of them held
	// until Source answers, OldestWait is when the longest held one began.
	Connections int
	Waiting     int
	Marked      int // see MarkConnections
	OldestWait  time.Time
	// TotalConnections counts every connection since the tunnel was made.
	TotalConnections int64
	// BytesIn counts bytes from the resource to clients, BytesOut the others.
	BytesIn  int64
	BytesOut int64
	// LastError is why a connection was last refused or broken, other than by
	// its client, and LastErrorAt when.
	LastError   error
	LastErrorAt time.Time
}

// Count adds open connections, given by whether they are marked, and those that
// wait, given by since when.
func (s *Status) Count(open iter.Seq[bool], waiting iter.Seq[time.Time]) {
	for marked := range open {
		s.Connections++
		if marked {
			s.Marked++
		}
	}
	for since := range waiting {
		s.Waiting++
		if s.OldestWait.IsZero() || since.Before(s.OldestWait) {
			s.OldestWait = since
		}
	}
}

// Outcome is how a connection of a tunnel failed last. The zero value is ready
// to use.
type Outcome struct {
	mu     sync.Mutex // guards everything below
	err    error
	failed time.Time
	logged time.Time // at Warn
}

// Failed remembers why a connection failed, and returns the level at which to
// log it: one line a minute says enough, since each failure is in the events.
func (o *Outcome) Failed(err error) slog.Level {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.err, o.failed = err, now
	if now.Sub(o.logged) < time.Minute {
		return slog.LevelDebug
	}
	o.logged = now
	return slog.LevelWarn
}

// Fill puts the outcome into s.
func (o *Outcome) Fill(s *Status) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s.LastError, s.LastErrorAt = o.err, o.failed
}
