// Package state holds the plain values every part of berth shares: the
// Snapshot the agent publishes, the Problems in it and their codes.
//
// It is a leaf: it imports only the standard library and does no I/O. A front
// end that knows this package can draw everything and reach no credential.
//
// "berth status --json" prints a Snapshot as JSON. Its keys are
// stable: scripts depend on them. All times are RFC 3339 in UTC.
package state

import (
	"slices"
	"strings"
	"time"
)

// Snapshot is everything the agent knows, at one moment. It is immutable once
// published: readers share it without locks, writers publish a new one.
type Snapshot struct {
	Agent    Agent     `json:"agent"`
	Profiles []Profile `json:"profiles"`
	Tunnels  []Tunnel  `json:"tunnels"`
	Requests []Request `json:"requests"`
	Problems []Problem `json:"problems"`
	Notices  []Notice  `json:"notices"`
	Policy   *Policy   `json:"policy"` // null when this machine has none
}

// Policy is what whoever looks after this machine has decided for berth on it.
type Policy struct {
	Path     string   `json:"path"`    // of the file
	Banner   string   `json:"banner"`  // a line for everyone; often empty
	Forbids  []string `json:"forbids"` // each rule as the file has it, such as "links: off"
	Included []string `json:"included"`
}

// Off reports whether the policy switches a feature off; no policy does.
func (p *Policy) Off(feature string) bool {
	return p != nil && slices.Contains(p.Forbids, feature+": off")
}

// Agent describes the running agent process.
type Agent struct {
	Version    string    `json:"version"`
	PID        int       `json:"pid"`
	StartedAt  time.Time `json:"started_at"`
	ConfigPath string    `json:"config_path"`
	// Draining counts the connections that the agents before this one still serve:
	// they have handed over everything else.
	Draining int64 `json:"draining"`
}

// Profile is one proxy's entry in a TELEPORT_HOME.
type Profile struct {
	Proxy          string       `json:"proxy"`   // host:port of the Teleport Proxy Service
	Cluster        string       `json:"cluster"` // the selected cluster: the root, or a leaf
	User           string       `json:"user"`
	Home           string       `json:"home"`
	Roles          []string     `json:"roles"`
	ActiveRequests []string     `json:"active_requests"`
	ValidUntil     *time.Time   `json:"valid_until"`     // the earlier of the X.509 and SSH ends; null when logged out
	SSHValidUntil  *time.Time   `json:"ssh_valid_until"` // null when there is no SSH cert
	State          ProfileState `json:"state"`
	Login          Login        `json:"login"`
	Renewal        Renewal      `json:"renewal"`
	Stored         []string     `json:"stored"` // what the keychain holds for the user: password, totp
	// HeldRequests are the access requests, by id or its beginning, whose
	// assume is held until there is a session.
	HeldRequests []string `json:"held_requests"`
	// PreviousUser is whose session was there before this user's, until
	// UserChangedAt; empty and null when that is not known.
	PreviousUser  string     `json:"previous_user"`
	UserChangedAt *time.Time `json:"user_changed_at"`
}

// ProfileState says whether a profile's session can be used.
type ProfileState string

// The states of a profile.
const (
	ProfileValid     ProfileState = "valid"
	ProfileExpiring  ProfileState = "expiring" // valid, but for less than ExpiringWithin
	ProfileExpired   ProfileState = "expired"
	ProfileLoggedOut ProfileState = "logged_out"
)

// ExpiringWithin is how long before its end a session is called expiring.
const ExpiringWithin = 15 * time.Minute

// ProfileStateAt returns the state of a session that ends at validUntil, as
// of now; a nil validUntil means there is no session.
func ProfileStateAt(now time.Time, validUntil *time.Time) ProfileState {
	switch {
	case validUntil == nil:
		return ProfileLoggedOut
	case !now.Before(*validUntil):
		return ProfileExpired
	case validUntil.Sub(now) < ExpiringWithin:
		return ProfileExpiring
	default:
		return ProfileValid
	}
}

// Login is the state of a login the agent runs for a profile.
type Login struct {
	InProgress bool      `json:"in_progress"`
	URL        string    `json:"url"`  // the loopback URL tsh printed; empty when there is none
	Asks       LoginKind `json:"asks"` // what it waits for: url, password, otp, pin or tap; empty when for nothing
}

// Renewal says what the agent does about a session's end.
type Renewal struct {
	Mode RenewMode `json:"mode"` // as the config has it
	// At is when the agent does or says something next: a warning, or a login
	// that it starts. Null when it will not.
	At      *time.Time     `json:"at"`
	Warning RenewalWarning `json:"warning"` // the warning to show now
	// RenewedAt is when an unattended login last brought a session; null means
	// never.
	RenewedAt *time.Time `json:"renewed_at"`
	Problem   *Problem   `json:"problem"` // why the last unattended login failed; null when none did
}

// RenewMode says what berth does when a session nears its end.
type RenewMode string

// The modes of renewing.
const (
	RenewAsk  RenewMode = "ask"  // a notification offers it
	RenewAuto RenewMode = "auto" // the login is started unasked
	RenewOff  RenewMode = "off"  // nothing happens
)

// RenewalWarning is how urgent a session's end is.
type RenewalWarning string

// The warnings.
const (
	WarnNot   RenewalWarning = ""
	WarnSoon  RenewalWarning = "soon"
	WarnLast  RenewalWarning = "last"
	WarnEnded RenewalWarning = "ended"
)

// Problem is one thing that is wrong now, in words for a person. Absence
// means healthy: a Problem that is gone needs no "resolved" event.
type Problem struct {
	Code   Code      `json:"code"`
	Title  string    `json:"title"`  // a few words
	Text   string    `json:"text"`   // one sentence: what, and which thing
	Action string    `json:"action"` // the next step, often a command to run
	Since  time.Time `json:"since"`
}

// Subject is the beginning of the text, up to its colon, which names whom and what the
// problem is about. It stays the same while more is known of it: "CLUSTER refuses
// USER".
func (p *Problem) Subject() string {
	subject, _, _ := strings.Cut(p.Text, ": ")
	return subject
}

// OverruledTitle is the title of a problem with CodePolicyOverrules, about the named
// tunnel or, when name is empty, the rest of the config.
func OverruledTitle(name string) string {
	if name == "" {
		return "Policy overrules the config"
	}
	return "Policy overrules the tunnel " + name
}

// Code names a kind of Problem; it is stable, unlike the words.
type Code string

// The codes of problems.
const (
	CodeConfigInvalid    Code = "config_invalid"        // the config file has mistakes; the last good one runs
	CodeHomeUnreadable   Code = "home_unreadable"       // a TELEPORT_HOME cannot be read
	CodeProfileBroken    Code = "profile_broken"        // a profile's files do not make a session
	CodeInsecureProxy    Code = "insecure_proxy"        // `insecure: true`: the proxy's web cert is not verified
	CodeProxyUnreachable Code = "proxy_unreachable"     // the proxy cannot be dialled
	CodeProxyUntrusted   Code = "proxy_untrusted"       // the proxy's web cert is not trusted
	CodeSessionRefused   Code = "session_refused"       // the cluster refuses the session's user everything: locked, or deleted
	CodeSessionOutdated  Code = "session_outdated"      // a CA of the cluster was rotated: only a login helps
	CodeLeafAway         Code = "leaf_away"             // the leaf cluster is not connected to its root
	CodeLoginNeeded      Code = "login_needed"          // no valid session
	CodeNoProfile        Code = "no_profile"            // no profile for the tunnel's cluster
	CodeUnknownCluster   Code = "unknown_cluster"       // the auth service knows no such cluster
	CodeUnknownResource  Code = "unknown_resource"      // the cluster lists no such resource (for this user)
	CodeAccessDenied     Code = "access_denied"         // the cluster refused
	CodeMFARequired      Code = "mfa_required"          // a second factor for each session: a code to type, or none that can be shown
	CodePINNeeded        Code = "pin_needed"            // the PIN of a security key is to be typed for a session
	CodeTapNeeded        Code = "tap_needed"            // a security key must be touched for a session
	CodeProtocol         Code = "protocol_unknown"      // the protocol is unknown or unsupported by the engine
	CodePortInUse        Code = "port_in_use"           // another program has the port
	CodePortDenied       Code = "port_denied"           // the OS does not allow binding the port
	CodeTSHMissing       Code = "tsh_missing"           // tsh is needed and cannot be found
	CodeTSHFailed        Code = "tsh_failed"            // a tsh child keeps failing
	CodeUpstream         Code = "upstream_failed"       // connections through the proxy fail
	CodeClockSkew        Code = "clock_skew"            // certs from the future: the clock is wrong
	CodeRenewFailed      Code = "renew_failed"          // an unattended login failed
	CodeInternal         Code = "internal"              // a bug in berth
	CodeKubeconfig       Code = "kubeconfig_unwritable" // berth's kubeconfig cannot be written
	CodeStateUnreadable  Code = "state_unreadable"      // berth's own saved state was set aside
	CodeStateUnwritable  Code = "state_unwritable"      // berth's own state and log cannot be written
	CodeFilesExhausted   Code = "files_exhausted"       // the agent may open no more files or connections
	CodeLimit            Code = "limit_reached"         // there is more of something than a limit allows
	CodeCrashLoop        Code = "crash_loop"            // the agent ended unexpectedly again and again
	CodePolicyBroken     Code = "policy_broken"         // the policy has mistakes, and its rules hold at their strictest
	CodePolicyOverrules  Code = "policy_overrules"      // the config says what the policy forbids
	CodeProxyForbidden   Code = "proxy_forbidden"       // the policy does not allow the proxy of a profile, or of a tunnel
	CodeMetrics          Code = "metrics_unserved"      // health and metrics cannot be served where the config says
	CodeProgramReplaced  Code = "program_replaced"      // the program's file is another one than the agent was started from
)
