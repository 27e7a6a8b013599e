package state

import (
	"fmt"
	"strings"
	"time"
)

// Engine says who carries a tunnel's bytes.
type Engine string

// The engines. EngineAuto appears in the config only: a snapshot names the
// engine that was chosen.
const (
	EngineAuto   Engine = "auto"
	EngineNative Engine = "native"
	EngineTSH    Engine = "tsh"
)

// Guard says whether only the agent's own OS user may use a tunnel.
type Guard string

// The guards. GuardNone is in a snapshot only.
const (
	GuardOn   Guard = "on"   // other users' programs are turned away
	GuardOff  Guard = "off"  // every user of this machine may use the tunnel
	GuardNone Guard = "none" // the system does not say who a client is, or need not
)

// Warmth says whether a tunnel keeps connections ready for the clients to come.
type Warmth string

// What the config may say of it.
const (
	WarmOn  Warmth = "on"
	WarmOff Warmth = "off"
)

// DefaultHold is how long a tunnel holds its clients unless its spec says
// otherwise.
const DefaultHold = 60 * time.Second

// TunnelSpec is a tunnel as the config asks for it: what is left out there is
// zero here. The methods give the values that follow from it.
type TunnelSpec struct {
	Name     string    `json:"name"`
	Kind     Kind      `json:"kind"`
	Cluster  string    `json:"cluster"`
	Resource string    `json:"resource"`
	DBUser   string    `json:"db_user"`   // empty leaves it to clients, where the protocol lets them choose
	DBName   string    `json:"db_name"`   // the same
	As       string    `json:"as"`        // who to be in Kubernetes; empty leaves it to clients
	AsGroups []string  `json:"as_groups"` // the same
	Port     int       `json:"port"`      // zero means that berth derives one
	Hold     *Duration `json:"hold"`      // nil means DefaultHold; zero means never hold
	Engine   Engine    `json:"engine"`    // empty means EngineAuto
	Guard    Guard     `json:"guard"`     // empty means GuardOn
	User     string    `json:"user"`      // the Teleport user that it is for; empty means whoever is logged in
	Recycle  *bool     `json:"recycle"`   // nil means true
	Warm     Warmth    `json:"warm"`      // empty means WarmOn
}

// HoldDuration is how long the tunnel's clients wait for a login; zero means
// that they do not.
func (t TunnelSpec) HoldDuration() time.Duration {
	if t.Hold == nil {
		return DefaultHold
	}
	return time.Duration(*t.Hold)
}

// Recycles reports whether idle connections are ended politely before the
// cluster cuts them with their cert.
func (t TunnelSpec) Recycles() bool { return t.Recycle == nil || *t.Recycle }

// Warms reports whether the tunnel may keep connections ready for clients.
func (t TunnelSpec) Warms() bool { return t.Warm != WarmOff }

// Guarded reports whether only the agent's own OS user may use the tunnel.
func (t TunnelSpec) Guarded() bool { return t.Guard != GuardOff }

// TunnelState is the one word for how a tunnel is.
type TunnelState string

// The states of a tunnel.
const (
	TunnelReady           TunnelState = "ready"             // a client that connects now gets through
	TunnelConnecting      TunnelState = "connecting"        // a cert is being fetched, or the first attempt runs
	TunnelWaitingForLogin TunnelState = "waiting_for_login" // no valid session for its profile
	TunnelPortInUse       TunnelState = "port_in_use"       // another program has the port
	TunnelError           TunnelState = "error"             // see Problem
	TunnelStopped         TunnelState = "stopped"           // stopped by the user
)

// Tunnel is berth's stable local port to one resource: what the config asks for
// and what became of it.
type Tunnel struct {
	TunnelSpec // its Port is the one the tunnel has, also where the config names none

	Profile      string      `json:"profile"`  // host:port of the proxy; empty when no profile knows the cluster
	Protocol     string      `json:"protocol"` // empty until the cluster has said
	Address      string      `json:"address"`  // the first of Addresses
	Addresses    []string    `json:"addresses"`
	Engine       Engine      `json:"engine"`        // the engine in use, whatever TunnelSpec.Engine asks for
	EngineReason string      `json:"engine_reason"` // why this engine, in a few words
	State        TunnelState `json:"state"`
	Problem      *Problem    `json:"problem"` // null when healthy
	// Connections counts open client connections, Waiting those of them held
	// until a login lands, by berth, or until a PIN is entered, by tsh.
	// TotalConnections counts all since the agent started.
	Connections      int64 `json:"connections"`
	Waiting          int64 `json:"waiting"`
	TotalConnections int64 `json:"total_connections"`
	// StaleConnections counts those of Connections that were opened with roles
	// that have been dropped since; restarting the tunnel closes them.
	StaleConnections int64      `json:"stale_connections"`
	BytesIn          int64      `json:"bytes_in"`  // from the resource to clients
	BytesOut         int64      `json:"bytes_out"` // from clients to the resource
	CertValidUntil   *time.Time `json:"cert_valid_until"`
	RunsAs           string     `json:"runs_as"` // the Teleport user whose cert it has; empty without one
	LastErrorAt      *time.Time `json:"last_error_at"`
	// WaitingSince is since when the longest held client waits, and
	// WaitingClient its program, "psql (pid 812)"; null and empty while berth
	// holds no client or, of the program, while it is not known.
	WaitingSince  *time.Time `json:"waiting_since"`
	WaitingClient string     `json:"waiting_client"`
	Guard         Guard      `json:"guard"` // the guard in use, whatever TunnelSpec.Guard asks for
	// ForeignUser is the OS user whose program was last turned away by the
	// guard, at ForeignAt; empty and null when none was.
	ForeignUser string     `json:"foreign_user"`
	ForeignAt   *time.Time `json:"foreign_at"`
	// EndingConnections counts those of Connections that the cluster cuts next, at
	// EndingAt, the end of the cert they were opened with; zero and null where it
	// cuts none.
	EndingConnections int64      `json:"ending_connections"`
	EndingAt          *time.Time `json:"ending_at"`
	// ShippedIn is the file of the machine's policy that the tunnel is from; empty
	// for one of the user's config.
	ShippedIn string `json:"shipped_in"`
	// Latency is how long it took last to open a way to the proxy, over TCP and TLS;
	// zero while that is not known, as behind a tunnel of tsh's.
	Latency Duration `json:"latency"`
}

// TunnelClient is a program that is connected to a tunnel.
type TunnelClient struct {
	Tunnel      string `json:"tunnel"`
	Program     string `json:"program"` // empty where the system does not say
	PID         int64  `json:"pid"`
	Connections int64  `json:"connections"`
}

// Duration is a time.Duration that the file spells "90s", "15m" or "1h30m".
type Duration time.Duration

// String is the shortest such spelling.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration", text)
	}
	*d = Duration(v)
	return nil
}
