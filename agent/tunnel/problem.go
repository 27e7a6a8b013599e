package tunnel

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/memory"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/internal/plain"
	"berth/proxies"
	"berth/proxies/route"
)

// engineError says that the config asks for an engine that cannot do it.
type engineError struct{ want, why string }

func (e *engineError) Error() string {
	return "engine " + e.want + " cannot carry this tunnel: " + e.why
}

// missingDBUserError says that the protocol takes the database user from the
// cert, so the tunnel must name one.
type missingDBUserError struct {
	protocol string
	allowed  []string
}

func (e *missingDBUserError) Error() string {
	return e.protocol + " takes the database user from the cert"
}

// dbNameError says that no database in a server of the protocol can have the
// tunnel's db_name. place is where that is written, if it is known.
type dbNameError struct{ protocol, name, place string }

func (e *dbNameError) Error() string {
	at := ""
	if e.place != "" {
		at = " (" + e.place + ")"
	}
	return fmt.Sprintf("%s numbers its databases, and db_name %q%s is not a number", e.protocol, e.name, at)
}

// otherUserError says that the tunnel is for one user, and that another has the
// profile.
type otherUserError struct {
	want, is string
	valid    bool // the other is logged in
}

func (e *otherUserError) Error() string {
	return fmt.Sprintf("the tunnel is for %s, and the profile is of %s", e.want, e.is)
}

// clockSkewError says that the session begins in the future, so one of the two
// clocks is wrong.
type clockSkewError struct{ validFrom time.Time }

func (e *clockSkewError) Error() string {
	return "the session begins at " + e.validFrom.UTC().Format(time.RFC3339) + ", which is in the future"
}

// titleTunnelFailed is the title of what no case knows: it says nothing.
const titleTunnelFailed = "Tunnel failed"

// problemFor puts an error into a person's words: what is wrong with which
// thing, and what to do next. proxy is the tunnel's proxy address, or empty; user
// is its session's, where a command about that has to name one; mem is the agent's
// memory of the cluster's last profile.
func problemFor(err error, spec state.TunnelSpec, proxy, user string, mem memory.Profile) *state.Problem {
	p := &state.Problem{Since: time.Now().UTC()}
	if classifyFault(p, err, proxy, user) || classifySession(p, err, spec, proxy, mem) || classifyCluster(p, err, spec, proxy) || classifyTunnel(p, err, spec) {
		return p
	}
	p.Code, p.Title = state.CodeUpstream, titleTunnelFailed
	p.Text = fmt.Sprintf("Tunnel %q to %s in %s: %v.", spec.Name, spec.Resource, spec.Cluster, err)
	p.Action = "berth tunnel restart " + spec.Name
	return p
}

// SessionProblem words what keeps one of all sessions from its cluster; nil means
// nothing that is known.
func SessionProblem(f sessions.Session, all *sessions.Sessions) *state.Problem {
	fault := f.Fault()
	if fault == nil {
		return nil
	}
	return faultProblem(fault, f.Profile.ProxyAddr, all.UserAt(f.Profile.ProxyAddr, f.Profile.User))
}

func faultProblem(fault *cluster.Fault, proxy, user string) *state.Problem {
	p := problemFor(fault.Err, state.TunnelSpec{}, proxy, user, memory.Profile{})
	p.Since = fault.Since.UTC()
	return p
}

// classifyFault covers what is wrong for all tunnels of a session, or of a leaf
// cluster, alike: its words name none of them.
func classifyFault(p *state.Problem, err error, proxy, user string) bool {
	var (
		away    *cluster.UnreachableError
		refused *cluster.RefusedError
		old     *cluster.OutdatedError
		leaf    *cluster.LeafAwayError
	)
	var limit *proxies.LimitError
	var bug *proxies.PanicError
	whose := "your login"
	if user != "" {
		whose = user + "'s login"
	}
	switch {
	case errors.As(err, &bug):
		p.Code, p.Title = state.CodeInternal, "Bug in berth"
		p.Text = "A bug in berth ended this connection; the others go on."
		p.Action = `please report it with the lines around "[unexpected]" in the agent's log`
	case errors.As(err, &limit):
		p.Code, p.Title = state.CodeLimit, "Too many clients"
		p.Text = tooMany(limit)
		p.Action = fmt.Sprintf("close connections, or set %s higher: berth config edit", config.LimitName(limit.Limit).Path())
	case cluster.Exhausted(rootCause(err)):
		p.Code, p.Title = state.CodeFilesExhausted, "Too many open files here"
		p.Text = "The agent has as many files and connections open as this machine allows it, so it cannot reach the proxy."
		p.Action = "close connections, or raise the limit (ulimit -n; LimitNOFILE= of the service); berth keeps trying"
	case errors.As(err, &refused):
		p.Code, p.Title = state.CodeSessionRefused, "Session refused"
		p.Text = fmt.Sprintf("%s refuses %s: %s", refused.Cluster, refused.User, refusedWhy(refused))
		p.Action = "ask who runs " + refused.Cluster + "; berth goes on by itself when you are let in again"
		if refused.Lock == "" {
			p.Action = sessions.RenewCommand(proxy, user) + " says more; berth goes on by itself when you are let in again"
		}
	case errors.As(err, &old) && old.Trust:
		p.Code, p.Title = state.CodeSessionOutdated, "Cluster's CA is old"
		p.Text = fmt.Sprintf("The CA of %s that %s at %s stored no longer fits: it was rotated, so berth cannot ask the cluster "+
			"for certs or lists. Tunnels go on while their certs last.", old.Cluster, whose, proxy)
		p.Action = sessions.RenewCommand(proxy, user)
	case errors.As(err, &old):
		p.Code, p.Title = state.CodeSessionOutdated, "Session no longer accepted"
		p.Text = fmt.Sprintf("%s no longer accepts the certs of %s at %s: its user CA was rotated.", old.Cluster, whose, proxy)
		p.Action = sessions.RenewCommand(proxy, user)
	case errors.As(err, &leaf):
		p.Code, p.Title = state.CodeLeafAway, "Leaf cluster away"
		p.Text = fmt.Sprintf("%s is not connected to %s at the moment.", leaf.Leaf, leaf.Root)
		p.Action = "berth keeps trying; ask who runs " + leaf.Leaf
	case errors.As(err, &away), errors.Is(err, route.ErrUnreachable):
		p.Code, p.Title = state.CodeProxyUnreachable, "Proxy unreachable"
		p.Text = fmt.Sprintf("The proxy %s does not answer: %s.", proxy, cluster.Why(rootCause(err)))
		p.Action = "check the network or VPN; berth keeps trying"
	default:
		return false
	}
	return true
}

// tooMany says which limit a client is above.
func tooMany(e *proxies.LimitError) string {
	what := map[proxies.Limit]string{
		proxies.LimitConnections:       "clients are connected to all tunnels together",
		proxies.LimitTunnelConnections: "clients are connected to this tunnel",
		proxies.LimitHeld:              "clients wait already",
	}[e.Limit]
	return fmt.Sprintf("%d %s, which is all that %s allows.", e.Most, what, config.LimitName(e.Limit).Path())
}

// refusedWhy says why, as far as the cluster or a login gave the reason.
func refusedWhy(refused *cluster.RefusedError) string {
	switch why := plain.Line(strings.TrimPrefix(refused.Err.Error(), "access denied")); {
	case refused.Lock != "":
		return fmt.Sprintf("locked, %q.", plain.Line(refused.Lock))
	case strings.Contains(why, "not found"):
		return "access denied; the user is deleted."
	default:
		return "access denied; locked or deleted?"
	}
}

// classifySession covers what a login would mend, or a correct clock.
func classifySession(p *state.Problem, err error, spec state.TunnelSpec, proxy string, mem memory.Profile) bool {
	var expired *cluster.SessionExpiredError
	var skew *clockSkewError
	var other *otherUserError
	var forbidden *config.PolicyError
	switch {
	case errors.As(err, &forbidden):
		p.Code, p.Title = state.CodeProxyForbidden, "Proxy not allowed"
		p.Text = fmt.Sprintf("Tunnel %q cannot be used: %v.", spec.Name, forbidden)
		p.Action = forbidden.NextStep()
	case errors.As(err, &other):
		p.Code, p.Title = state.CodeLoginNeeded, "Another user's session"
		p.Text = fmt.Sprintf("The session at %s is of %s, and tunnel %q is for %s: it waits.", proxy, other.is, spec.Name, other.want)
		p.Action = sessions.LoginCommand(proxy, other.want)
		if other.valid {
			p.Action = fmt.Sprintf("berth logout %s, then %s", proxy, p.Action)
		}
	case errors.Is(err, sessions.ErrNoProfile):
		p.Code, p.Title = state.CodeNoProfile, "Not logged in"
		p.Text = fmt.Sprintf("No Teleport profile knows the cluster %q that tunnel %q leads to.", spec.Cluster, spec.Name)
		p.Action = sessions.LoginCommand(mem.Proxy, mem.User)
	case errors.Is(err, sessions.ErrLoginNeeded), errors.As(err, &expired):
		p.Code, p.Title = state.CodeLoginNeeded, "Login needed"
		p.Text = fmt.Sprintf("There is no valid session at %s, so tunnel %q waits for a login.", proxy, spec.Name)
		p.Action = sessions.LoginCommand(proxy, mem.User)
	case errors.Is(err, cluster.ErrCodeNeeded):
		p.Code, p.Title = state.CodeMFARequired, "Code needed"
		p.Text = fmt.Sprintf("The cluster asks for a one-time code for each session, so tunnel %q waits for one.", spec.Name)
		p.Action = sessions.LoginCommand(proxy, mem.User)
	case errors.Is(err, tsh.ErrReplaced):
		p.Code, p.Title = state.CodePINNeeded, "Session changed"
		p.Text = fmt.Sprintf("The session, or its roles, changed while a client of tunnel %q waited for the security key.", spec.Name)
		p.Action = "connect again"
	case errors.As(err, &skew):
		p.Code, p.Title = state.CodeClockSkew, "Clock is wrong"
		p.Text = fmt.Sprintf("The session at %s begins in the future (%s): this machine's clock is behind.",
			proxy, skew.validFrom.UTC().Format(time.RFC3339))
		p.Action = "set this machine's clock"
	default:
		return false
	}
	return true
}

// classifyCluster covers what the cluster, or the way to it, refuses.
func classifyCluster(p *state.Problem, err error, spec state.TunnelSpec, proxy string) bool {
	var (
		denied     *cluster.AccessDeniedError
		noCluster  *cluster.UnknownClusterError
		noDatabase *cluster.UnknownDatabaseError
		noKube     *cluster.UnknownKubeError
		caFile     *config.CAFileError
		endless    *cluster.TooLongError
	)
	switch {
	case errors.As(err, &endless):
		p.Code, p.Title = state.CodeLimit, "List too long"
		p.Text = fmt.Sprintf("%s lists more %s than berth takes, so tunnel %q was not found.", spec.Cluster, endless.What, spec.Name)
		p.Action = "ask who runs " + spec.Cluster + "; roles that show you less would help"
	case errors.As(err, &noDatabase):
		p.Code, p.Title = state.CodeUnknownResource, "Unknown database"
		p.Text = fmt.Sprintf("Cluster %s lists no database %q for you.", noDatabase.Cluster, noDatabase.Database)
		if noDatabase.Similar != "" {
			p.Text = strings.TrimSuffix(p.Text, ".") + fmt.Sprintf("; did you mean %q?", noDatabase.Similar)
		}
		p.Action = "berth resources db --cluster " + noDatabase.Cluster
	case errors.As(err, &noKube):
		p.Code, p.Title = state.CodeUnknownResource, "Unknown Kubernetes cluster"
		p.Text = fmt.Sprintf("Cluster %s lists no Kubernetes cluster %q for you.", noKube.Cluster, noKube.KubeCluster)
		if noKube.Similar != "" {
			p.Text = strings.TrimSuffix(p.Text, ".") + fmt.Sprintf("; did you mean %q?", noKube.Similar)
		}
		p.Action = "berth resources kube --cluster " + noKube.Cluster
	case errors.As(err, &noCluster):
		p.Code, p.Title = state.CodeUnknownCluster, "Unknown cluster"
		p.Text = fmt.Sprintf("%s trusts no cluster %q.", noCluster.Root, noCluster.Cluster)
		p.Action = "tsh clusters"
	case errors.As(err, &denied):
		p.Code, p.Title = state.CodeAccessDenied, "Access denied"
		p.Text = fmt.Sprintf("The cluster refused tunnel %q: %v.", spec.Name, denied)
		p.Action = listCommand(spec)
	case errors.Is(err, route.ErrUntrusted):
		p.Code, p.Title = state.CodeProxyUntrusted, "Proxy not trusted"
		p.Text = fmt.Sprintf("The web certificate of %s is not trusted: %v.", proxy, rootCause(err))
		p.Action = "name the CA that issued it: berth login --ca-file /path/to/ca.pem " + proxy
	case errors.As(err, &caFile):
		p.Code, p.Title = state.CodeProxyUntrusted, "CA file unusable"
		p.Text = fmt.Sprintf("The %v.", caFile)
		p.Action = "berth config edit"
	case kinds[spec.Kind] != nil && (errors.Is(err, proxies.ErrClosedEarly) || errors.Is(err, route.ErrHandshake)):
		p.Code = state.CodeUpstream
		kinds[spec.Kind].hungUp(p, err, spec, proxy)
	default:
		return false
	}
	return true
}

// listCommand lists what the tunnel could lead to.
func listCommand(spec state.TunnelSpec) string {
	return strings.Join(strings.Fields(fmt.Sprintf("berth resources %s --cluster %s", spec.Kind, spec.Cluster)), " ")
}

// classifyTunnel covers the tunnel itself: its engine, its port.
func classifyTunnel(p *state.Problem, err error, spec state.TunnelSpec) bool {
	var (
		engine  *engineError
		dbUser  *missingDBUserError
		dbName  *dbNameError
		missing *tsh.NotFoundError
		factor  *noFactorError
		port    *proxies.PortError
	)
	switch {
	case errors.As(err, &engine):
		p.Code, p.Title = state.CodeProtocol, "Engine cannot do this"
		p.Text = fmt.Sprintf("Tunnel %q: %v.", spec.Name, engine)
		p.Action = "set engine: auto for this tunnel in the config"
	case errors.As(err, &dbUser):
		p.Code, p.Title = state.CodeProtocol, "Database user missing"
		p.Text = fmt.Sprintf("Tunnel %q: %v, so it must name one.", spec.Name, dbUser)
		p.Action = "add db_user to the tunnel in the config" + allowedUsers(dbUser.allowed)
	case errors.As(err, &dbName):
		p.Code, p.Title = state.CodeProtocol, "Database number needed"
		p.Text = fmt.Sprintf("Tunnel %q: %v.", spec.Name, dbName)
		p.Action = "write a number, as in db_name: 0, or leave it out: berth config edit"
	case errors.As(err, &factor):
		p.Code, p.Title = state.CodeMFARequired, "No second factor"
		p.Text = fmt.Sprintf("Tunnel %q: %v.", spec.Name, factor)
		p.Action = "tsh mfa add"
		if spec.Engine == state.EngineTSH {
			p.Action = "set engine: auto for this tunnel in the config"
		}
	case errors.Is(err, errStartSlow):
		p.Code, p.Title = state.CodeTSHFailed, "tsh is slow to start"
		p.Text = fmt.Sprintf("The tsh process behind tunnel %q was not ready while the client was held.", spec.Name)
		p.Action = "connect again, or berth tunnel why " + spec.Name
	case errors.Is(err, errKeyNeeded):
		p.Code, p.Title = state.CodeMFARequired, "Security key needed"
		p.Text = fmt.Sprintf("The cluster asks for a security key for each session of tunnel %q: tsh asks for it when a client connects.", spec.Name)
		p.Action = "connect, and touch the key"
	case errors.As(err, &missing):
		p.Code, p.Title = state.CodeTSHMissing, "tsh not found"
		p.Text = fmt.Sprintf("Tunnel %q needs tsh, which is not on this machine.", spec.Name)
		p.Action = "install tsh, or name it in the config: tsh: {path: /path/to/tsh}"
	case errors.Is(err, proxies.ErrPortTaken):
		owner := "another program"
		if errors.As(err, &port) && port.Owner != nil {
			owner = port.Owner.String()
		}
		p.Code, p.Title = state.CodePortInUse, "Port in use"
		p.Text = fmt.Sprintf("Port %d of tunnel %q is taken by %s.", spec.Port, spec.Name, owner)
		p.Action = "stop that program; berth takes the port the moment it is free"
	case errors.Is(err, proxies.ErrPortDenied):
		p.Code, p.Title = state.CodePortDenied, "Port not allowed"
		p.Text = fmt.Sprintf("The system does not let berth listen on port %d of tunnel %q.", spec.Port, spec.Name)
		p.Action = "give the tunnel a port above 1023 in the config"
	default:
		return false
	}
	return true
}

func allowedUsers(users []string) string {
	if len(users) == 0 {
		return ""
	}
	return "; you may use: " + strings.Join(users, ", ")
}

// rootCause is the innermost error's text: for a network failure it is the
// only part a person can use.
func rootCause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}
