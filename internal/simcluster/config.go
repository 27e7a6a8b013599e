package simcluster

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/certwatch"
	"berth/internal/simcluster/simdb"
)

// The Teleport releases a simulated cluster can pass for.
const (
	V16 = "16.4.12"
	V17 = "17.2.3"
)

// Config says what a simulated cluster is like. The zero Config is a v16
// cluster with the user alice, who may do everything, and no databases.
type Config struct {
	// Name of the root cluster; empty means "sim.test".
	Name string
	// ProxyHost is the host name clients use; empty means "localhost". The
	// listener is on 127.0.0.1 whatever it says.
	ProxyHost string
	// Port to listen on; zero means one the system chooses.
	Port int
	// Version the cluster passes for, V16 or V17; empty means V16. It decides
	// which public key fields GenerateUserCerts reads.
	Version string
	// SessionTTL is how long a login lasts unless a shorter time is asked for;
	// zero means 12 hours.
	SessionTTL time.Duration
	// Users who may log in; nil means alice, password "alice-password", with
	// the role access.
	Users []User
	// Roles that exist; nil means one role, access, that allows everything.
	Roles []Role
	// Databases of the root cluster.
	Databases []Database
	// Kubes are the Kubernetes clusters of the root cluster.
	Kubes []Kube
	// KubeHandler answers for all Kubernetes clusters; nil means that each has
	// its own. KubeIdentity tells it who asks.
	KubeHandler http.Handler
	// Connectors are the single sign-on connectors; the first, if any, is the
	// cluster's default way to log in.
	Connectors []Connector
	// DisconnectExpiredCert is the cluster-wide setting: database connections
	// are cut the second their cert ends.
	DisconnectExpiredCert bool
	// PrivateKeyPolicy the cluster announces; empty means "none". With another
	// one no cert is issued to a key that is not attested.
	PrivateKeyPolicy string
	// PingInterval is how often the proxy pings on "-ping" protocols; zero
	// means 5 s, negative that it does not speak those protocols.
	PingInterval time.Duration
	// BehindLoadBalancer puts a TLS-terminating balancer in front: no ALPN is
	// ever negotiated and only the web API answers, so that tunnels need a
	// connection upgrade.
	BehindLoadBalancer bool
	// WebSocketOnly makes the connection upgrade refuse its legacy form, and
	// LegacyUpgradeOnly its websocket form.
	WebSocketOnly, LegacyUpgradeOnly bool
	// Log receives the cluster's doings at Debug; nil discards them.
	Log *slog.Logger
}

// User is someone who may log in.
type User struct {
	Name     string
	Password string // empty means that password logins are refused
	OTP      string // a fixed one-time code to be asked for at a login; empty means none
	TOTP     string // the seed of one-time codes that sessions may take; empty means none
	// LoginTOTP says that logins take one of these codes too.
	LoginTOTP bool
	// SecurityKey says that sessions may take a touch of one.
	SecurityKey bool
	// SecurityKeyPIN is the PIN that it wants too; empty means none.
	SecurityKeyPIN string
	TouchWait      time.Duration // how long it waits for a touch; zero means 5 s
	Roles          []string      // nil means the role access
	Logins         []string      // OS logins; nil means the user's name
}

// Role says what users of that role may do.
type Role struct {
	Name string
	// DBLabels a database must carry to be allowed; nil means all databases.
	// NoDatabases allows none.
	DBLabels    map[string][]string
	NoDatabases bool
	DBUsers     []string // allowed database users; nil means all
	DBNames     []string // allowed database names; nil means all
	// KubeLabels a Kubernetes cluster must carry to be allowed; nil means all
	// of them. NoKubes allows none.
	KubeLabels map[string][]string
	NoKubes    bool
	KubeUsers  []string // whom to be there; nil means the user's own name
	KubeGroups []string
	// MaxSessionTTL clips logins; zero means Config.SessionTTL.
	MaxSessionTTL         time.Duration
	DisconnectExpiredCert bool
	RequireSessionMFA     bool

	// Recordings says which recordings its holders may list and read: all, when
	// empty, RecordingsOwn or RecordingsNone.
	Recordings string
	// ListEvents lets its holders search the whole audit log.
	ListEvents bool

	// Request says what its holders may request.
	Request RequestRules
	// Review names the roles whose requests its holders may review, "*"
	// standing for any run of characters.
	Review []string
	// RequestVerbs are the verbs of a rule for access requests: list, read,
	// update, delete, create. Update lets its holders decide any request.
	RequestVerbs []string
}

// What a role may say of recordings.
const (
	RecordingsOwn  = "own"
	RecordingsNone = "none"
)

// RequestRules says what the holders of a role may request.
type RequestRules struct {
	Roles              []string // "*" stands for any run of characters
	SearchAsRoles      []string // roles that requests for resources may use
	Thresholds         []types.AccessReviewThreshold
	SuggestedReviewers []string
	MaxDuration        time.Duration // zero means that approved roles end with the session
	RequireReason      bool
	Prompt             string
}

// Database is a database service of a cluster.
type Database struct {
	Name        string
	Protocol    string // as Teleport says it: postgres, mysql, redis, …
	Description string
	Labels      map[string]string
	URI         string // empty means "localhost:0"
	// Replicas is how many services carry the database; zero means one.
	Replicas int
	// Away is what the database service says to every client that it lets in,
	// because it cannot reach the database; empty means that it can.
	Away string
	// Backend answers the clients; nil means the simulated server for
	// Protocol, or an echo where there is none.
	Backend simdb.Backend

	version string // of a MySQL, as the database service has found it
}

// Kube is a Kubernetes cluster of a cluster.
type Kube struct {
	Name   string
	Labels map[string]string
	// Handler answers the clients; nil means a stand-in, which Site.Simkube
	// returns.
	Handler http.Handler
}

// ConnectorType is a kind of single sign-on.
type ConnectorType string

// The kinds of single sign-on.
const (
	OIDC   ConnectorType = "oidc"
	SAML   ConnectorType = "saml"
	GitHub ConnectorType = "github"
)

// Connector is a single sign-on connector. Its identity provider is a page of
// the proxy, with a link for each user, so that a plain HTTP client can log in
// by following one.
type Connector struct {
	Name    string
	Type    ConnectorType
	Display string
}

// defaultRole may do everything.
func defaultRole() Role {
	return Role{Name: "access", KubeGroups: []string{"system:masters"}}
}

func (cfg Config) withDefaults() Config {
	if cfg.Name == "" {
		cfg.Name = "sim.test"
	}
	if cfg.ProxyHost == "" {
		cfg.ProxyHost = "localhost"
	}
	if cfg.Version == "" {
		cfg.Version = V16
	}
	if cfg.SessionTTL == 0 {
		cfg.SessionTTL = 12 * time.Hour
	}
	if cfg.Users == nil {
		cfg.Users = []User{{Name: "alice", Password: "alice-password"}}
	}
	if cfg.Roles == nil {
		cfg.Roles = []Role{defaultRole()}
	}
	if cfg.PrivateKeyPolicy == "" {
		cfg.PrivateKeyPolicy = "none"
	}
	if cfg.PingInterval == 0 {
		cfg.PingInterval = 5 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// caller identifies a connection's user: the client cert and its content.
type caller struct {
	identity certwatch.Identity
	cert     clientCert
}
