package tray

import (
	"berth/agent/state"
	"berth/internal/plain"
)

// aim is where a tunnel's clients are pointed.
type aim struct {
	what  string // in "Copy …"
	text  string // what is copied
	label string // the same in a menu's line
}

// aimOf is all that the menu knows of kinds of tunnels.
func aimOf(t state.Tunnel) aim {
	switch t.Kind {
	case state.KindKube:
		context := contextPrefix + t.Name
		return aim{what: "context name", text: context, label: "context " + plain.Short(context, maxName)}
	default:
		return aim{what: "address", text: t.Address, label: t.Address}
	}
}
