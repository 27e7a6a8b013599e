package proxies

import (
	"net"
	"time"
)

// EventKind is a step in a connection's life.
type EventKind string

// The steps. A connection has one EventAccepted, then perhaps EventWaiting,
// then either EventRefused, or EventConnected, perhaps EventAnswered, and
// EventClosed. A client that hangs up before it is connected ends with
// EventClosed.
const (
	EventAccepted  EventKind = "accepted"
	EventWaiting   EventKind = "waiting"   // held until Source answers
	EventConnected EventKind = "connected" // the upstream is open
	EventAnswered  EventKind = "answered"  // by the upstream, which serves the client unless Err says why not
	EventRefused   EventKind = "refused"   // Source or Dial failed; see Err
	EventClosed    EventKind = "closed"    // Err is nil when it ended in the usual way
)

// Event is one step in a client connection's life.
type Event struct {
	At     time.Time
	Kind   EventKind
	Client net.Addr
	// Err is why a connection was refused or broke: a *ConnError says which
	// side did it. It is the ear's own error in EventAnswered, and in
	// EventClosed of a client that spoke something else.
	Err error
	// Waited is how long Source took, from EventConnected and EventRefused on.
	Waited time.Duration
	// BytesIn and BytesOut are the connection's own, in EventClosed.
	BytesIn  int64
	BytesOut int64
}
