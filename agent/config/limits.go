package config

import (
	"encoding/json"
	"fmt"
	"strconv"

	generator "github.com/invopop/jsonschema"
)

// Limits are how much of each thing there may be. Zero is the default: see
// Config.Limit and limitKeys.
type Limits struct {
	Connections       int `json:"connections,omitempty"`
	TunnelConnections int `json:"tunnel_connections,omitempty"`
	Held              int `json:"held,omitempty"`
	Tunnels           int `json:"tunnels,omitempty"`
	Requests          int `json:"requests,omitempty"`
	History           int `json:"history,omitempty"`
	LogSize           int `json:"log_size,omitempty"`
}

// LimitName is a key of limits.
type LimitName string

// The keys of limits.
const (
	LimitConnections       LimitName = "connections"
	LimitTunnelConnections LimitName = "tunnel_connections"
	LimitHeld              LimitName = "held"
	LimitTunnels           LimitName = "tunnels"
	LimitRequests          LimitName = "requests"
	LimitHistory           LimitName = "history"
	LimitLogSize           LimitName = "log_size"
)

// Path is the key as people write of it.
func (n LimitName) Path() string { return "limits." + string(n) }

// LimitKey is a key of limits.
type LimitKey struct {
	Name                 LimitName
	Default, Least, Most int
	doc                  string
	of                   func(*Limits) *int
}

// limitKeys are the keys of limits: all that people can set otherwise.
var limitKeys = []LimitKey{
	{
		LimitConnections, 16_000, 1, 1_000_000,
		"How many clients may be connected at a time, by all tunnels together; each request to Kubernetes counts as one. The " +
			"next one is refused in its protocol. Each needs two open files of those that the system allows (ulimit -n).",
		func(l *Limits) *int { return &l.Connections },
	},
	{
		LimitTunnelConnections, 12_000, 1, 1_000_000,
		"The same for one tunnel, so that one pool that leaks leaves something to the others.",
		func(l *Limits) *int { return &l.TunnelConnections },
	},
	{
		LimitHeld, 2_000, 1, 1_000_000,
		"How many clients may be held at a time while a login is needed, by all tunnels together. The next one is refused at once.",
		func(l *Limits) *int { return &l.Held },
	},
	{
		LimitTunnels, 2_000, 1, 10_000,
		"How many tunnels the file may have.",
		func(l *Limits) *int { return &l.Tunnels },
	},
	{
		LimitRequests, 5_000, 10, 50_000,
		"How many access requests are shown; of more, your own come first, then those that wait for your review, then the newest.",
		func(l *Limits) *int { return &l.Requests },
	},
	{
		LimitHistory, 50, 10, 1_000,
		"How many lines the history of a tunnel has; then the oldest gives way.",
		func(l *Limits) *int { return &l.History },
	},
	{
		LimitLogSize, 5, 1, 1_000,
		"How many megabytes a file of the agent's log has; then the next one begins. Three old ones are kept.",
		func(l *Limits) *int { return &l.LogSize },
	},
}

// Limit is the value of a limit, its default where the file has none.
func (c *Config) Limit(name LimitName) int {
	for _, k := range limitKeys {
		if k.Name == name {
			if n := *k.of(&c.Limits); n != 0 {
				return n
			}
			return k.Default
		}
	}
	panic(fmt.Sprintf("config: no limit %q", name))
}

// describeLimits completes the schema of limits, which has the types so far.
func describeLimits(limits *generator.Schema) {
	for _, k := range limitKeys {
		p, ok := limits.Properties.Get(string(k.Name))
		if !ok {
			panic(fmt.Sprintf("[unexpected] config schema: no %s", k.Name.Path()))
		}
		p.Minimum, p.Maximum = json.Number(strconv.Itoa(k.Least)), json.Number(strconv.Itoa(k.Most))
		p.Default, p.Description = k.Default, fmt.Sprintf("%s From %d to %d.", k.doc, k.Least, k.Most)
	}
}

// withLimits adds the words for the keys of limits.
func withLimits(wants map[string]want) map[string]want {
	for _, k := range limitKeys {
		wants[k.Name.Path()] = want{"a number", fmt.Sprintf("use %d–%d", k.Least, k.Most)}
	}
	return wants
}

// checkLimits refuses more tunnels than the file itself allows.
func checkLimits(root *value, ms *mistakes) {
	tunnels := root.get("tunnels")
	most := (&Config{}).Limit(LimitTunnels)
	if v := root.get("limits").get(string(LimitTunnels)); v != nil && !v.wrong {
		if n, ok := numberOf(v.scalar); ok {
			most = int(n)
		}
	}
	if tunnels != nil && len(tunnels.list) > most {
		mark(tunnels.list[most], fmt.Sprintf("tunnels[%d]", most), ms,
			"the file has %d tunnels, and %s allows %d: set that higher, or delete some", len(tunnels.list), LimitTunnels.Path(), most)
	}
}
