package cluster

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/gravitational/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// UnreachableError says that the proxy, or the auth service behind it, did not
// answer. Trying again later can help.
type UnreachableError struct {
	Proxy string
	Err   error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("proxy %s does not answer: %s", e.Proxy, Why(e.Err))
}

func (e *UnreachableError) Unwrap() error { return e.Err }

const hangsUp = "it hangs up"

// whys match the errors of networks, on any system and of whichever library, and
// give each in plain words.
var whys = []struct {
	says *regexp.Regexp
	why  string
}{
	{exhausted, "this machine lets berth open no more connections"},
	{regexp.MustCompile(`refused`), "connection refused"},
	{regexp.MustCompile(`no such host|server misbehaving|lookup `), "its name does not resolve"},
	{regexp.MustCompile(`unreachable network|network is (unreachable|down)`), "the network is unreachable"},
	{regexp.MustCompile(`no route to host|unreachable host`), "there is no route to it"},
	{regexp.MustCompile(`timeout|timed out|deadline|DeadlineExceeded|no answer`), "no answer in time"},
	{regexp.MustCompile(`certificate|x509:|tls:|handshake`), "its TLS connection fails"},
	{regexp.MustCompile(`reset|EOF|broken pipe|closing|closed|hung up`), hangsUp},
}

// exhausted matches the system's errors for too many open files: of this process
// (EMFILE) or of the whole system (ENFILE). gRPC keeps only their text.
var exhausted = regexp.MustCompile(`too many open files|file table overflow`)

// Exhausted reports whether a connection failed since this process, or the
// system, may open no more of them.
func Exhausted(err error) bool { return exhausted.MatchString(err.Error()) }

// Why says in plain words why a connection to a proxy failed.
func Why(err error) string {
	for _, w := range whys {
		if w.says.MatchString(err.Error()) {
			return w.why
		}
	}
	return "no connection to it"
}

// RefusedError says that the cluster refuses the session's user whatever is
// asked: they are locked, or deleted.
type RefusedError struct {
	Cluster, User string
	Lock          string // the lock's message, as a login was refused with it; empty: not known
	Err           error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("cluster %s refuses %s: %v", e.Cluster, e.User, e.Err)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// OutdatedError says that the certs of the session are of a CA that was rotated,
// so that only a login helps.
type OutdatedError struct {
	Cluster string
	// Trust says that what the session has of the cluster is old: the cluster
	// cannot be verified. Otherwise it is the cluster that no longer accepts the
	// session's certs.
	Trust bool
	Err   error
}

func (e *OutdatedError) Error() string {
	if e.Trust {
		return fmt.Sprintf("the session's CA of cluster %s is old: %v", e.Cluster, e.Err)
	}
	return fmt.Sprintf("cluster %s no longer accepts the session: %v", e.Cluster, e.Err)
}

func (e *OutdatedError) Unwrap() error { return e.Err }

// LeafAwayError says that a leaf cluster is not connected to its root, which
// answers.
type LeafAwayError struct {
	Leaf, Root string
	Err        error
}

func (e *LeafAwayError) Error() string {
	return fmt.Sprintf("%s is not connected to %s: %v", e.Leaf, e.Root, e.Err)
}

func (e *LeafAwayError) Unwrap() error { return e.Err }

// SessionExpiredError says that the session ended, so nothing can be asked in
// its name.
type SessionExpiredError struct {
	Profile string
	At      time.Time
}

func (e *SessionExpiredError) Error() string {
	return fmt.Sprintf("the session at %s ended at %s", e.Profile, e.At.UTC().Format(time.RFC3339))
}

// UnknownClusterError says that the root cluster trusts no cluster of that
// name.
type UnknownClusterError struct {
	Cluster, Root string
}

func (e *UnknownClusterError) Error() string {
	return fmt.Sprintf("cluster %q is not known to %s", e.Cluster, e.Root)
}

// UnknownDatabaseError says that the cluster lists no such database to this
// user. Teleport itself would mint a cert for it and then hang up on the
// client without a word.
type UnknownDatabaseError struct {
	Cluster, Database string
	// Similar is the closest name that is listed; empty means none is close.
	Similar string
}

func (e *UnknownDatabaseError) Error() string {
	return fmt.Sprintf("cluster %s lists no database %q for you", e.Cluster, e.Database)
}

// UnknownKubeError says that the cluster has no such Kubernetes cluster for
// this user: it does not list it, or refused to mint a cert for it.
type UnknownKubeError struct {
	Cluster, KubeCluster string
	// Similar is the closest name that is listed; empty means none is close.
	Similar string
}

func (e *UnknownKubeError) Error() string {
	return fmt.Sprintf("cluster %s lists no Kubernetes cluster %q for you", e.Cluster, e.KubeCluster)
}

// AccessDeniedError says that the auth service refused the call.
type AccessDeniedError struct {
	Op  string
	Err error
}

func (e *AccessDeniedError) Error() string { return fmt.Sprintf("%s: %v", e.Op, e.Err) }

func (e *AccessDeniedError) Unwrap() error { return e.Err }

// classify turns what the api client returned for op, which it asked the named cluster
// for, into one of the errors above where it is one, and adds op where it is not.
func (c *Cluster) classify(ctx context.Context, name, op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%s: %w", op, context.Canceled)
	case !time.Now().Before(c.session.ValidUntil):
		// Errors for an expired client cert vary with where the connection
		// breaks (EOF, broken pipe, tls: expired certificate): the clock decides.
		return &SessionExpiredError{Profile: c.profile.ProxyAddr, At: c.session.ValidUntil}
	case outdated(err) != nil:
		return &OutdatedError{Cluster: name, Trust: *outdated(err), Err: plain(err)}
	case trace.IsAccessDenied(err), status.Code(err) == codes.PermissionDenied, status.Code(err) == codes.Unauthenticated,
		trace.IsNotFound(err) && strings.HasPrefix(trace.UserMessage(err), denied): // the user is deleted
		return &AccessDeniedError{Op: op, Err: plain(err)}
	case trace.IsConnectionProblem(err), status.Code(err) == codes.Unavailable, closedUnder(err),
		status.Code(err) == codes.DeadlineExceeded, errors.Is(err, context.DeadlineExceeded):
		return &UnreachableError{Proxy: c.profile.ProxyAddr, Err: plain(err)}
	default:
		return fmt.Errorf("%s: %w", op, plain(err))
	}
}

// denied is what the auth service says to whoever may do nothing.
const denied = "access denied"

// outdated reports whether err shows that a CA was rotated: trust says that it
// is the one by which the cluster is verified. gRPC passes on the words only.
func outdated(err error) (trust *bool) {
	text := err.Error()
	switch {
	case strings.Contains(text, "x509: certificate signed by unknown authority"):
		return new(true)
	case strings.Contains(text, "remote error: tls: unknown certificate authority"):
		return new(false)
	default:
		return nil
	}
}

// closedUnder reports whether the connection was closed while the call was
// under way: another call gave it up, see call.
func closedUnder(err error) bool {
	return status.Code(err) == codes.Canceled || strings.Contains(err.Error(), "client connection is closing")
}

// plainError keeps a trace error for errors.Is and As, and drops its stack
// trace and gRPC dressing from the text.
type plainError struct {
	text string
	err  error
}

func (e *plainError) Error() string { return e.text }

func (e *plainError) Unwrap() error { return e.err }

func plain(err error) error {
	said := trace.UserMessage(err)
	text := said
	for _, noise := range []string{"rpc error: code = Unavailable desc = ", "connection error: desc = "} {
		text = strings.ReplaceAll(text, noise, "")
	}
	text = strings.ReplaceAll(text, `"transport: Error while dialing: `, `"`)
	if text != said { // the dressing has put the rest in quotes
		text = strings.Trim(text, `"`)
	}
	return &plainError{text: strings.Join(strings.Fields(text), " "), err: err}
}
