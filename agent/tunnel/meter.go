package tunnel

import (
	"context"
	"errors"
	"net"
	"time"

	"berth/agent/cluster"
	"berth/agent/state"
	"berth/proxies"
)

// Meter counts what happens in tunnels. Its methods are called from many goroutines
// and must not block.
type Meter interface {
	// Dialled is called when a client's connection was opened, or was not.
	Dialled(tunnel string, took time.Duration, err error)
	// Minted is called when a cert for a tunnel was fetched, or was not.
	Minted(tunnel string, took time.Duration, err error)
	// Served is called when a client got through, with how long it was held; zero
	// for one that was not.
	Served(t Metered, held time.Duration)
	// Refused is called when a client was refused, with the code of the reason.
	Refused(t Metered, code state.Code)
}

// Metered is what a Meter may know of a tunnel.
type Metered struct {
	Name, Cluster, Protocol string
	User                    string // of Teleport
	Kind                    state.Kind
}

type unmetered struct{}

func (unmetered) Dialled(string, time.Duration, error) {}
func (unmetered) Minted(string, time.Duration, error)  {}
func (unmetered) Served(Metered, time.Duration)        {}
func (unmetered) Refused(Metered, state.Code)          {}

// codeForeign is the code of clients that the guard turned away, which are no
// problem of the tunnel.
const codeForeign state.Code = "foreign_user"

// timed is dial, and counts.
func (t *tunnel) timed(dial proxies.Dial) proxies.Dial {
	return func(ctx context.Context) (net.Conn, error) {
		began := time.Now()
		conn, err := dial(ctx)
		if err == nil {
			t.latency.Store(int64(time.Since(began)))
		}
		if ctx.Err() == nil || err == nil { // a client that leaves says nothing of the way
			t.meter.Dialled(t.spec.Name, time.Since(began), err)
		}
		return conn, err
	}
}

// minted counts a cert, unless the tunnel has it already.
func (t *tunnel) minted(cert *cluster.Cert, took time.Duration, err error) {
	t.mu.Lock()
	known := cert != nil && t.cur != nil && t.cur.identity == any(cert.TLS)
	t.mu.Unlock()
	if !known {
		t.meter.Minted(t.spec.Name, took, err)
	}
}

// count counts clients.
func (t *tunnel) count(ev proxies.Event, res resolution) {
	is := Metered{Name: t.spec.Name, Cluster: t.spec.Cluster, Protocol: res.protocol, User: res.user, Kind: t.spec.Kind}
	switch ev.Kind {
	case proxies.EventConnected:
		held := ev.Waited
		if held < proxies.HeldAfter {
			held = 0
		}
		t.meter.Served(is, held)
	case proxies.EventRefused:
		if errors.Is(ev.Err, proxies.ErrClientGone) || errors.Is(ev.Err, proxies.ErrStopped) || errors.Is(ev.Err, proxies.ErrClosed) {
			return
		}
		code := t.problemOf(ev.Err, res).Code
		if _, away := errors.AsType[*proxies.TurnedAwayError](ev.Err); away {
			code = codeForeign
		}
		t.meter.Refused(is, code)
	default: // neither says whether a client got through
	}
}
