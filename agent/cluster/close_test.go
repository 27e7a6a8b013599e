package cluster

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client"

	"berth/internal/simcluster"
	"berth/internal/testwait"
	"berth/proxies/route"
)

// slowConn is a connection whose reader learns of its end when it is released: gRPC
// waits for that.
type slowConn struct {
	net.Conn
	closing func()
	release <-chan struct{}
}

func (c slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		<-c.release
	}
	return n, err
}

func (c slowConn) Close() error {
	c.closing()
	return c.Conn.Close()
}

// TestSlowCloseDelaysNoCall: a connection that is given up, and slow to end since the
// network swallows what is sent, delays no call over the next one.
func TestSlowCloseDelaysNoCall(t *testing.T) {
	c := connect(t, start(t, simcluster.Config{}))
	pool, err := c.ClusterCAs(t.Context(), c.root)
	if err != nil {
		t.Fatal(err)
	}
	closing, release := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(closing) })
	slow, err := client.New(t.Context(), client.Config{
		Dialer: client.ContextDialerFunc(func(ctx context.Context, network, _ string) (net.Conn, error) {
			conn, err := route.Connect(ctx, network, c.profile.ProxyAddr)
			return slowConn{conn, once, release}, err
		}),
		Credentials: []client.Credentials{client.LoadTLS(&tls.Config{
			Certificates: []tls.Certificate{c.session.Cert}, RootCAs: pool, MinVersion: tls.VersionTLS12,
		})},
		ALPNSNIAuthDialClusterName: c.root, DialInBackground: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.clients[c.root] = slow
	var resetting sync.WaitGroup
	resetting.Go(c.reset)
	defer resetting.Wait()
	defer close(release)
	<-closing
	called := make(chan error, 1)
	go func() {
		_, err := c.Databases(t.Context(), c.root)
		called <- err
	}()
	select {
	case err := <-called:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(testwait.Patience):
		t.Error("a call waits for the end of a connection that was given up")
	}
}

// TestCloseEndsTheWaitForAVerdict: a call that waits to hear whether its cluster is away
// does not wait on when the session is closed, which ends the check.
func TestCloseEndsTheWaitForAVerdict(t *testing.T) {
	t.Parallel()
	c := connect(t, start(t, simcluster.Config{}))
	c.stand.mu.Lock()
	c.stand.asking = true // and the check does not end
	c.stand.mu.Unlock()
	decided := make(chan bool, 1)
	go func() {
		_, ok := c.verdict(t.Context(), time.Hour)
		decided <- ok
	}()
	testwait.Moment() // for it to wait
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case ok := <-decided:
		if ok {
			t.Error("a check that did not end has decided")
		}
	case <-time.After(testwait.Patience):
		t.Error("a call waits on after the close")
	}
}
