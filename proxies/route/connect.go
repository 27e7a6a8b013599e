package route

import (
	"context"
	"net"
	"time"

	"berth/proxies"
)

// besideAfter is how long an attempt to connect may be silent before another
// begins beside it: the system repeats a lost SYN only after 1, 2 and 4 s, and
// a lost question to a name server after 5.
const besideAfter = 500 * time.Millisecond

// Connect opens a TCP connection, and is through within besideAfter of the
// moment at which the address can be reached again. The first attempt that
// succeeds or fails decides; ctx bounds them all.
func Connect(ctx context.Context, network, addr string) (net.Conn, error) {
	return Hedge(ctx, func(ctx context.Context) (net.Conn, error) {
		dialer := &net.Dialer{
			KeepAliveConfig: proxies.KeepAlive,
			Resolver:        newResolver(),
		}
		return dialer.DialContext(ctx, network, addr)
	})
}

// newResolver returns one like the default, which itself would wait for the answer
// to an earlier question.
func newResolver() *net.Resolver {
	usual := net.DefaultResolver
	return &net.Resolver{PreferGo: usual.PreferGo, StrictErrors: usual.StrictErrors, Dial: usual.Dial}
}

// Hedge returns what the first of the attempts to dial returns, of which one
// more begins every besideAfter.
func Hedge(ctx context.Context, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result)
	attempt := func() {
		conn, err := dial(ctx)
		select {
		case results <- result{conn, err}:
		case <-ctx.Done():
			if conn != nil {
				_ = conn.Close() // another was faster, and nothing was sent on this one
			}
		}
	}
	// A conn that was dialled does not mind that its ctx ends.
	defer cancel()
	go attempt()
	next := time.NewTicker(besideAfter)
	defer next.Stop()
	for {
		select {
		case r := <-results:
			return r.conn, r.err
		case <-next.C:
			go attempt()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
