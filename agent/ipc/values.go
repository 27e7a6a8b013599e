package ipc

import (
	"berth/agent/state"
)

// ResourceQuery says which resources to list.
type ResourceQuery struct {
	Kind    state.Kind // empty means all kinds
	Cluster string     // empty means every cluster the user is logged in to
}

// Resource is something a cluster offers that a tunnel can lead to.
type Resource struct {
	Name        string            `json:"name"`
	Kind        state.Kind        `json:"kind"`
	Protocol    string            `json:"protocol"` // empty for kube
	Description string            `json:"description"`
	Labels      map[string]string `json:"labels"`
	Cluster     string            `json:"cluster"`
	Tunnel      string            `json:"tunnel"`   // the tunnel that leads here; empty when none does
	DBUsers     []string          `json:"db_users"` // what the user's roles allow; "*" means any
	DBNames     []string          `json:"db_names"` // the same for names of databases
}

// Successor is the agent that has taken another one's place.
type Successor struct {
	PID     int
	Version string
}

// SettingChange is one setting of the config file, and its new value.
type SettingChange struct {
	Key   string
	Value string // as in the file; empty takes the setting out of it
	Proxy string // whose setting it is, where that differs by proxy
}

// Peer is the process that has connected.
type Peer struct {
	UID string // the numeric user id; on Windows the user's SID
	PID int    // zero when the system does not tell
}
