package simcluster

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"berth/internal/wake"
)

// Mode is how the proxy, or one database, misbehaves.
type Mode int

// The modes.
const (
	// Healthy is no fault.
	Healthy Mode = iota
	// Refusing closes the proxy's listener, so that dialling is refused;
	// connections that are open stay. A refusing database hangs up right
	// after the TLS handshake, as one does whose service is gone.
	Refusing
	// Stalled accepts and then says nothing: no byte passes any more, on open
	// connections neither. At the proxy this begins before the TLS handshake,
	// at a database after it, because the handshake carries where it leads.
	Stalled
	// StalledAfterTLS lets new connections finish their handshake, and then
	// says nothing on them. For a database it is the same as Stalled, but
	// open connections go on.
	StalledAfterTLS
)

// Link slows connections down. The zero Link does not.
type Link struct {
	Delay          time.Duration // before what a client sent is read
	BytesPerSecond int           // towards the client; zero means no limit
}

// condition is the fault of one target.
type condition struct {
	mode Mode
	link Link
}

// Faults makes a cluster misbehave. Databases are named by their service name,
// those of a leaf as "leaf/service". All methods may be called at any time.
type Faults struct {
	c   *Cluster
	any atomic.Bool // whether any condition is set, so that healthy traffic pays nothing

	mu       sync.Mutex
	proxy    condition
	dbs      map[string]condition
	changed  wake.Broadcast
	rpcDelay map[string]time.Duration
	rpcError map[string]error
	offset   time.Duration
	// expiredSerial is the last serial of the sessions declared expired.
	expiredSerial int64
	expiredAt     time.Time
}

func newFaults(c *Cluster) *Faults {
	return &Faults{
		c:        c,
		dbs:      make(map[string]condition),
		rpcDelay: make(map[string]time.Duration),
		rpcError: make(map[string]error),
	}
}

// update changes the faults and makes all connections check them again.
func (f *Faults) update(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	some := f.proxy != condition{}
	for key, cond := range f.dbs {
		if cond == (condition{}) {
			delete(f.dbs, key)
			continue
		}
		some = true
	}
	f.any.Store(some)
	f.changed.Wake()
}

// of returns what holds for a connection to target, nil meaning the proxy
// alone, and a channel that is closed when that may have changed.
func (f *Faults) of(target *string) (stalled bool, link Link, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stalled, link = f.proxy.mode == Stalled, f.proxy.link
	if target != nil {
		db := f.dbs[*target]
		stalled = stalled || db.mode == Stalled
		link.Delay += db.link.Delay
		if db.link.BytesPerSecond > 0 && (link.BytesPerSecond == 0 || db.link.BytesPerSecond < link.BytesPerSecond) {
			link.BytesPerSecond = db.link.BytesPerSecond
		}
	}
	return stalled, link, f.changed.Changed()
}

// holdAfterTLS waits while new connections to target are not to be answered.
// It reports whether the connection is to be served.
func (f *Faults) holdAfterTLS(ctx context.Context, raw *conn, target *string) bool {
	for {
		f.mu.Lock()
		cond := f.proxy
		if target != nil {
			cond = f.dbs[*target]
		}
		changed := f.changed.Changed()
		f.mu.Unlock()
		if cond.mode != StalledAfterTLS {
			return target == nil || cond.mode != Refusing
		}
		select {
		case <-changed:
		case <-raw.done:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// Proxy sets how the whole proxy misbehaves. Leaving Refusing listens again on
// the same port.
func (f *Faults) Proxy(m Mode) error {
	f.update(func() { f.proxy.mode = m })
	if m == Refusing {
		f.c.stopListening()
		return nil
	}
	return f.c.listen()
}

// Database sets how one database misbehaves.
func (f *Faults) Database(name string, m Mode) {
	f.update(func() {
		cond := f.dbs[name]
		cond.mode = m
		f.dbs[name] = cond
	})
}

// Kube sets how one Kubernetes cluster misbehaves; that of a leaf is named
// "leaf/name". A refusing one cuts every request off, a stalled one lets no
// byte pass.
func (f *Faults) Kube(name string, m Mode) { f.Database(KubeKey(name), m) }

// DropKube cuts the connections to one Kubernetes cluster and returns how many
// there were.
func (f *Faults) DropKube(name string) int { return f.DropDatabase(KubeKey(name)) }

// SlowProxy slows all connections down.
func (f *Faults) SlowProxy(l Link) {
	f.update(func() { f.proxy.link = l })
}

// SlowDatabase slows the connections to one database down.
func (f *Faults) SlowDatabase(name string, l Link) {
	f.update(func() {
		cond := f.dbs[name]
		cond.link = l
		f.dbs[name] = cond
	})
}

// Balance puts a balancer in front, see Config.BehindLoadBalancer. Open connections go
// on without.
func (f *Faults) Balance() { f.c.balanced.Store(true) }

// Drop cuts all connections and returns how many there were.
func (f *Faults) Drop() int {
	return f.c.closeConns(func(*conn) bool { return true })
}

// Reset cuts all connections as a proxy does that crashed: by a reset, without
// an end of what is sent. It returns how many there were.
func (f *Faults) Reset() int {
	return f.c.closeConns(func(c *conn) bool {
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // one that is closed already is as good
		}
		return true
	})
}

// DropDatabase cuts the connections to one database and returns how many
// there were.
func (f *Faults) DropDatabase(name string) int {
	return f.c.closeConns(func(c *conn) bool {
		target := c.target.Load()
		return target != nil && *target == name
	})
}

// Stop makes the proxy go away: its listener closes and so does everything
// open. Start undoes it.
func (f *Faults) Stop() {
	f.c.stopListening()
	f.Drop()
}

// Start makes a stopped proxy listen again, on the same port.
func (f *Faults) Start() error { return f.c.listen() }

// Restart stops the proxy, for the given time, and starts it again.
func (f *Faults) Restart(ctx context.Context, down time.Duration) error {
	f.Stop()
	if !wake.Sleep(ctx, down) {
		return fmt.Errorf("restart of the simulated proxy: %w", ctx.Err())
	}
	return f.Start()
}

// ClockOffset makes the cluster's clock differ from the machine's.
func (f *Faults) ClockOffset(d time.Duration) {
	f.update(func() { f.offset = d })
}

// ExpireSessions ends all sessions there are: their certs open no new
// connection any more, and what an open one mints has already ended. The
// certs themselves do not know: their NotAfter is what it was.
//
// A client gets "bad certificate" here. To get "expired certificate" its cert
// must have ended by the cluster's clock: see ClockOffset.
func (f *Faults) ExpireSessions() {
	now := f.c.now()
	f.update(func() {
		f.expiredSerial = f.c.serial.Load()
		f.expiredAt = now
	})
}

// RPCDelay makes a call of the auth service slow; the method is its bare name,
// such as "GenerateUserCerts", and "" means every one. Zero undoes it, and calls
// that wait go on: the auth service is no longer slow.
func (f *Faults) RPCDelay(method string, d time.Duration) {
	f.update(func() { f.rpcDelay[method] = d })
}

// RPCError makes a call of the auth service fail; the method is named as for
// RPCDelay. nil undoes it.
func (f *Faults) RPCError(method string, err error) {
	f.update(func() { f.rpcError[method] = err })
}

// Clear undoes all faults but ExpireSessions, and starts a stopped proxy.
func (f *Faults) Clear() error {
	f.update(func() {
		f.proxy = condition{}
		clear(f.dbs)
		clear(f.rpcDelay)
		clear(f.rpcError)
		f.offset = 0
	})
	return f.c.listen()
}

// rpc applies the faults of a call.
func (f *Faults) rpc(ctx context.Context, method string) error {
	for began := time.Now(); ; {
		f.mu.Lock()
		left := f.rpcDelay[""] + f.rpcDelay[method] - time.Since(began)
		err := cmp.Or(f.rpcError[method], f.rpcError[""])
		changed := f.changed.Changed()
		f.mu.Unlock()
		if left <= 0 {
			return err
		}
		waiting, cancel := context.WithTimeout(ctx, left)
		select {
		case <-waiting.Done():
		case <-changed:
		}
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (f *Faults) clock() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.offset
}

// sessionEnd returns when the session behind a cert ends.
func (f *Faults) sessionEnd(cert clientCert) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if cert.serial <= f.expiredSerial && f.expiredAt.Before(cert.notAfter) {
		return f.expiredAt
	}
	return cert.notAfter
}
