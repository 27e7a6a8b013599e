package proxies

import (
	"fmt"
	"sync"
)

// Limit names one of Bounds.
type Limit string

// The limits of clients.
const (
	LimitConnections       Limit = "connections"        // open in all tunnels
	LimitTunnelConnections Limit = "tunnel_connections" // open in one tunnel
	LimitHeld              Limit = "held"               // held in all tunnels
)

// Bounds are how many clients there may be at a time.
type Bounds struct{ Connections, TunnelConnections, Held int }

// courtesy is how many clients above a limit are refused in words at a time; the
// next ones are closed without, so that a flood costs no more than that.
const courtesy = 64

// LimitError says that a client is one too many.
type LimitError struct {
	Limit Limit
	Most  int
	flood bool // it is not even refused in words
}

// Error names the limit.
func (e *LimitError) Error() string {
	return fmt.Sprintf("the limit %s of %d is reached", e.Limit, e.Most)
}

// Limits counts the clients of many tunnels, and says which is one too many. A nil
// *Limits counts nothing and has no limit.
type Limits struct {
	bounds func() Bounds

	mu         sync.Mutex // guards everything below
	open, held int
}

// NewLimits returns Limits that are what bounds returns at each moment.
func NewLimits(bounds func() Bounds) *Limits { return &Limits{bounds: bounds} }

// Enter counts a client of a tunnel that has others open. Whatever it returns, Leave
// must follow.
func (l *Limits) Enter(others int) *LimitError {
	if l == nil {
		return nil
	}
	b := l.bounds()
	l.mu.Lock()
	l.open++
	open := l.open
	l.mu.Unlock()
	switch over := others + 1 - b.TunnelConnections; {
	case over > 0:
		return &LimitError{LimitTunnelConnections, b.TunnelConnections, over > courtesy}
	case open > b.Connections:
		return &LimitError{LimitConnections, b.Connections, open-b.Connections > courtesy}
	default:
		return nil
	}
}

// Connections is how many clients all tunnels together may have; negative without a
// limit.
func (l *Limits) Connections() int {
	if l == nil {
		return -1
	}
	return l.bounds().Connections
}

// Leave counts a client that has gone.
func (l *Limits) Leave() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
}

// Hold counts a client that is held. Whatever it returns, Unhold must follow.
func (l *Limits) Hold() *LimitError {
	if l == nil {
		return nil
	}
	most := l.bounds().Held
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held++
	if l.held > most {
		return &LimitError{Limit: LimitHeld, Most: most}
	}
	return nil
}

// Unhold counts a client that is no longer held.
func (l *Limits) Unhold() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held--
}
