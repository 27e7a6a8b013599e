package state

import "slices"

// Kind is the kind of resource a tunnel leads to.
type Kind string

// The kinds of tunnels.
const (
	KindDB   Kind = "db"
	KindKube Kind = "kube"
)

// KindInfo describes a kind of tunnel to every room. How such a
// tunnel works is known by the room that does it, in a table of its own.
type KindInfo struct {
	Kind   Kind
	Title  string // of what it leads to
	Plural string // of the same, as in "this is for databases"
	// Protocol is the clients' protocol, where all such tunnels share it.
	Protocol string
	// ResourceKind is Teleport's name for it in the id of a resource.
	ResourceKind string
	// SharesPort means that tunnels without a port of their own share a single
	// port. Otherwise berth derives a port from the tunnel's name.
	SharesPort bool
	// ShowsCert means that clients prove with a certificate whose they are, so
	// that nothing needs to guard the port.
	ShowsCert bool
	// NamesUser means that such resources have users of their own, of whom a tunnel
	// may name the one to be.
	NamesUser bool
}

// Kinds are all kinds of tunnels.
var Kinds = []KindInfo{
	{Kind: KindDB, Title: "database", Plural: "databases", ResourceKind: "db", NamesUser: true},
	{
		Kind: KindKube, Title: "Kubernetes cluster", Plural: "Kubernetes", Protocol: "Kubernetes", ResourceKind: "kube_cluster",
		SharesPort: true, ShowsCert: true,
	},
}

// Info is the kind's entry of Kinds. An unknown kind, from a newer agent, has
// nothing but its name.
func (k Kind) Info() KindInfo {
	if i := slices.IndexFunc(Kinds, func(info KindInfo) bool { return info.Kind == k }); i >= 0 {
		return Kinds[i]
	}
	return KindInfo{Kind: k, Title: string(k), Plural: string(k), ResourceKind: string(k)}
}

// Known reports whether the kind is one of Kinds.
func (k Kind) Known() bool {
	return slices.ContainsFunc(Kinds, func(info KindInfo) bool { return info.Kind == k })
}
