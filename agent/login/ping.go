package login

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gravitational/teleport/api/constants"

	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/tsh"
	"berth/proxies/route"
)

// pingTimeout bounds the question how to log in; tsh is run without an answer.
const pingTimeout = 5 * time.Second

// loginPing is a proxy's public description of itself.
type loginPing struct {
	singleSignOn bool
	minClient    string // the least version of tsh it takes
	server       string // its own version
}

// pingProxy asks a proxy how one logs in with the connector, or without one
// with its default.
func pingProxy(ctx context.Context, proxy, connector string, trust config.ProxyTrust) (loginPing, error) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	pong, err := route.Ping(ctx, proxy, connector, trust.RootCAs, trust.Insecure)
	if err != nil {
		return loginPing{}, fmt.Errorf("ping %s: %w", proxy, err)
	}
	sso := pong.Auth == constants.OIDC || pong.Auth == constants.SAML || pong.Auth == constants.Github
	return loginPing{singleSignOn: sso, minClient: pong.MinClient, server: pong.Version}, nil
}

// OldTSHError says that the cluster no longer takes this tsh.
type OldTSHError struct{ have, least tsh.Version }

func (e *OldTSHError) Error() string {
	return fmt.Sprintf("tsh %v is too old for this cluster, which wants %v or newer", e.have, e.least)
}

// checkTSHVersion compares tsh with what the cluster asks for. A tsh that is too
// old is an error, one of a later major version worth a note: Teleport promises
// nothing of it, and it mostly works. A version that cannot be read is no
// reason to refuse a login.
func checkTSHVersion(ctx context.Context, path string, ping loginPing) (note string, err error) {
	have, err := tsh.ReadVersion(ctx, path)
	if err != nil {
		return "", nil //nolint:nilerr // tsh reports its own trouble
	}
	if least, err := tsh.ParseVersion(ping.minClient); err == nil && !have.AtLeast(least) {
		return "", &OldTSHError{have: have, least: least}
	}
	if server, err := tsh.ParseVersion(ping.server); err == nil && have.Major > server.Major {
		return fmt.Sprintf("tsh %v is newer than the cluster (%v), which Teleport does not support; if the login fails, use tsh %d.",
			have, server, server.Major), nil
	}
	return "", nil
}

// errNoPassword is why nothing can be remembered where one logs in by single
// sign-on.
var errNoPassword = errors.New("its users log in by single sign-on, so there is no password to remember")

// Failed words a login that failed, for the caller.
func Failed(err error, proxy string) error {
	if known, ok := errors.AsType[*ipc.Error](err); ok {
		return known
	}
	e := &ipc.Error{Code: ipc.CodeFailed, Message: fmt.Sprintf("cannot log in to %s: %v", proxy, err)}
	var missing *tsh.NotFoundError
	var old *OldTSHError
	var wrong *wrongStoredError
	switch {
	case errors.As(err, &wrong):
		e.Code = ipc.CodeWrongSecret
		e.Hint = "log in, and store the new one: berth login --remember " + proxy
		if wrong.doubted {
			e.Hint = "log in, or delete what is stored: berth login --forget " + proxy
		}
	case errors.Is(err, errNoPassword):
		e.Hint = "berth login " + proxy
	case errors.Is(err, ErrLeft):
		e.Message = fmt.Sprintf("the login to %s was cancelled", proxy)
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &missing):
		e.Hint = missing.Hint()
		if !missing.FromConfig {
			e.Code = ipc.CodeTSHMissing
		}
	case errors.As(err, &old):
		e.Hint = "update tsh"
	case errors.Is(err, tsh.ErrUnknownConnector):
		e.Hint = "choose one with --auth"
	case errors.Is(err, tsh.ErrProxyUntrusted):
		e.Hint = "name the CA that issued it: berth login --ca-file /path/to/ca.pem " + proxy
	case errors.Is(err, tsh.ErrProxyUnreachable):
		e.Hint = "check the address, and the network or VPN"
	case errors.Is(err, tsh.ErrNoTerminal):
		e.Hint = fmt.Sprintf("log in by hand, and berth goes on by itself: tsh login --proxy=%s", proxy)
	case errors.Is(err, tsh.ErrBadLogin):
		e.Code, e.Message = ipc.CodeWrongSecret, "wrong user name, password or code for "+proxy
		e.Hint = fmt.Sprintf("try again: berth login %s; add --user NAME if your Teleport user name differs from your local one", proxy)
	case errors.Is(err, tsh.ErrLocked):
		e.Hint = "ask who runs the cluster"
	case errors.Is(err, tsh.ErrNotApproved):
		e.Hint = "each login makes an access request; when a reviewer is there, try again: berth login " + proxy
	case errors.Is(err, tsh.ErrLoginTimeout), errors.Is(err, tsh.ErrLoginRefused):
		e.Hint = "try again: berth login " + proxy
	}
	return e
}

// codesFailed words why tunnels got no certs for their codes.
func codesFailed(err error, proxy string) error {
	told, ok := errors.AsType[*ipc.Error](Failed(err, proxy))
	if !ok {
		return err
	}
	if !errors.Is(err, ErrLeft) {
		told.Message = fmt.Sprintf("tunnels through %s have not got their codes: %v", proxy, err)
		told.Hint = "try again: berth login " + proxy
	}
	return told
}
