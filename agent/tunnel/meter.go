package tunnel

import (
	"time"

	"berth/agent/state"
)

// Meter counts what happens in tunnels. Its methods are called from many goroutines
// and must not block.
type Meter interface {
	// Dialled is called when a client's connection was opened, or was not.
	Dialled(tunnel string, took time.Duration, err error)
	// Minted is called when a cert for a tunnel was fetched, or was not.
	Minted(tunnel string, took time.Duration, err error)
	// Served is called when a client got through, with how long it was held; zero
	// for one that was not.
	Served(t Metered, held time.Duration)
	// Refused is called when a client was refused, with the code of the reason.
	Refused(t Metered, code state.Code)
}

// Metered is what a Meter may know of a tunnel.
type Metered struct {
	Name, Cluster, Protocol string
	User                    string // of Teleport
	Kind                    state.Kind
}

type unmetered struct{}

func (unmetered) Dialled(string, time.Duration, error) {}
func (unmetered) Minted(string, time.Duration, error)  {}
func (unmetered) Served(Metered, time.Duration)        {}
func (unmetered) Refused(Metered, state.Code)          {}

// codeForeign is the code of clients that the guard turned away, which are no
// problem of the tunnel.
const codeForeign state.Code = "foreign_user"
