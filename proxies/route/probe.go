package route

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// refusalTime is how long a proxy may take to refuse a cert that it was shown: with
// TLS 1.3 it says so after the handshake.
const refusalTime = 150 * time.Millisecond

// errAnswered ends a handshake at the moment when the client would show its cert.
var errAnswered = errors.New("the proxy has answered")

// A Probe is how the way to a resource is tried.
type Probe struct {
	// ShowCert shows the client cert, as a client's connection does. Without it the
	// handshake ends just before: where the cert alone begins a session, a probe
	// must not.
	ShowCert bool
	// HTTP are the versions to offer in place of the route's ALPN protocol.
	HTTP []string
}

// Try makes the handshake of a client's connection along a route and sends nothing
// on it. It returns the error that a client would get: the proxy cannot be reached
// or says nothing, is not trusted, does not know the protocol or, where the cert is
// shown, refuses it.
func (p Probe) Try(ctx context.Context, r Route) error {
	r.http = p.HTTP
	if !p.ShowCert {
		r.answered = func() error { return errAnswered }
	}
	conn, err := r.Dial(ctx)
	switch {
	case errors.Is(err, errAnswered):
		return nil
	case err != nil:
		return err
	}
	defer conn.Close() //nolint:errcheck // it has served
	if !p.ShowCert {
		return nil
	}
	return refusal(conn)
}

// refusal returns why the other side hangs up at once. A byte that comes in its
// place is the greeting of a server that speaks first.
func refusal(conn net.Conn) error {
	if err := conn.SetReadDeadline(time.Now().Add(refusalTime)); err != nil {
		return fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	_, err := conn.Read(make([]byte, 1))
	var wait net.Error
	if err == nil || errors.As(err, &wait) && wait.Timeout() {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrHandshake, err)
}

// clientCert returns what a handshake shows when the server asks for a cert. The
// ALPN protocol is agreed on by then.
func (r Route) clientCert(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if r.answered != nil {
		return nil, r.answered()
	}
	return r.Cert, nil
}
