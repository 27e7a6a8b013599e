package proxies

import (
	"errors"
	"fmt"
	"net"
	"strconv"
)

// Why a connection ended, or never began.
var (
	// ErrHoldEnded means that no credential came while the client was held.
	ErrHoldEnded = errors.New("no credential came in time")
	// ErrClientGone means that the client hung up before it was connected.
	ErrClientGone = errors.New("client hung up")
	// ErrStopped means that the tunnel is stopping.
	ErrStopped = errors.New("tunnel is stopping")
	// ErrClosed means that CloseConnections was called.
	ErrClosed = errors.New("connections were closed on request")
	// ErrClosedEarly means that the upstream hung up before it sent a byte, as
	// a proxy does for a resource that it does not know.
	ErrClosedEarly = errors.New("upstream hung up without an answer")
	// ErrProbe means, beside another of these, that it happened to a client that
	// only wanted to know how the tunnel is.
	ErrProbe = errors.New("to a probe")
)

// TurnedAwayError says that Config.Guard rejected a client.
type TurnedAwayError struct{ Err error }

// Error adds that the guard rejected the client.
func (e *TurnedAwayError) Error() string { return "turned away: " + e.Err.Error() }

// Unwrap returns the guard's error.
func (e *TurnedAwayError) Unwrap() error { return e.Err }

// Why a port cannot be bound: a *PortError matches one of them.
var (
	// ErrPortTaken means that another program uses the port.
	ErrPortTaken = errors.New("port is taken")
	// ErrPortDenied means that the OS does not let this user bind the port.
	ErrPortDenied = errors.New("port is not allowed")
)

// PortError says that a port cannot be bound, and which program holds it.
type PortError struct {
	Port int
	Host string
	// Owner is the program that holds the port; nil while it is not known. It
	// is looked up after a failed bind, so Bind itself does not return it.
	Owner *Owner
	// Reason is ErrPortTaken or ErrPortDenied.
	Reason error
	// Err is the OS's error.
	Err error
}

// Error names the port and the program that holds it.
func (e *PortError) Error() string {
	addr := net.JoinHostPort(e.Host, strconv.Itoa(e.Port))
	if e.Owner != nil {
		return fmt.Sprintf("bind %s: %v by %s", addr, e.Reason, e.Owner)
	}
	return fmt.Sprintf("bind %s: %v: %v", addr, e.Reason, e.Err)
}

// Unwrap returns the Reason and the OS's error.
func (e *PortError) Unwrap() []error { return []error{e.Reason, e.Err} }

// Side is an end of a connection.
type Side string

// The sides of a connection through a tunnel.
const (
	SideClient   Side = "client"
	SideUpstream Side = "upstream"
)

// ConnError says which side broke an open connection.
type ConnError struct {
	Side Side
	Op   string // "read" or "write"
	Err  error
}

// Error names the side and what failed.
func (e *ConnError) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Side, e.Err) }

// Unwrap returns the cause.
func (e *ConnError) Unwrap() error { return e.Err }
