package state

import "time"

// Readiness says whether a client that connects to a tunnel now gets through. In
// contrast to a Snapshot's State it was tried.
type Readiness struct {
	Name     string      `json:"name"`
	Ready    bool        `json:"ready"`
	State    TunnelState `json:"state"`    // what is, also where the tunnel's own state does not know yet
	Code     Code        `json:"code"`     // of the problem; empty for none
	Protocol string      `json:"protocol"` // empty until the cluster has said
	ProbedAt time.Time   `json:"probed_at"`
}
