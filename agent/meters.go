package agent

import (
	"time"

	"berth/agent/state"
	"berth/agent/tunnel"
)

// meter is a room that counts what happens.
type meter interface {
	tunnel.Meter
	LoggedIn(took time.Duration, err error)
	Assumed()
}

// meters has each of several rooms count.
type meters []meter

// Dialled implements tunnel.Meter.
func (ms meters) Dialled(name string, took time.Duration, err error) {
	for _, m := range ms {
		m.Dialled(name, took, err)
	}
}

// Minted implements tunnel.Meter.
func (ms meters) Minted(name string, took time.Duration, err error) {
	for _, m := range ms {
		m.Minted(name, took, err)
	}
}

// Served implements tunnel.Meter.
func (ms meters) Served(t tunnel.Metered, held time.Duration) {
	for _, m := range ms {
		m.Served(t, held)
	}
}

// Refused implements tunnel.Meter.
func (ms meters) Refused(t tunnel.Metered, code state.Code) {
	for _, m := range ms {
		m.Refused(t, code)
	}
}

// LoggedIn counts a login.
func (ms meters) LoggedIn(took time.Duration, err error) {
	for _, m := range ms {
		m.LoggedIn(took, err)
	}
}

// Assumed counts a request whose roles were taken.
func (ms meters) Assumed() {
	for _, m := range ms {
		m.Assumed()
	}
}
