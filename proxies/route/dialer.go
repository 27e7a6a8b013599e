package route

import (
	"context"
	"errors"
	"net"
	"time"

	"berth/internal/wake"
)

// redialAfter is the pause before a proxy that refused a connection is tried
// again for the same client: a proxy that restarts is back within a moment.
const redialAfter = 200 * time.Millisecond

// Dialer dials along a route for clients: it tries again while the proxy is
// unreachable.
type Dialer struct {
	Route Route
	// UpgradeNeeded is called when the proxy turns out to need a connection
	// upgrade. The dial that found out fails: its route is wrong.
	UpgradeNeeded func()
}

// Dial opens a connection, trying as long as ctx allows. It is a proxies.Dial.
func (d Dialer) Dial(ctx context.Context) (net.Conn, error) {
	for {
		conn, err := d.Route.Dial(ctx)
		switch {
		case err == nil:
			return conn, nil
		case errors.Is(err, ErrUpgradeNeeded):
			d.UpgradeNeeded()
			return nil, err
		case !errors.Is(err, ErrUnreachable) || !wake.Sleep(ctx, redialAfter):
			return nil, err
		}
	}
}

// DialHTTP is Dial for one of these versions of HTTP, best first. It is what a
// kube.Upstream dials with.
func (d Dialer) DialHTTP(ctx context.Context, versions ...string) (net.Conn, error) {
	d.Route.http = versions
	return d.Dial(ctx)
}
