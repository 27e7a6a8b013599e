package simcluster

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/trace"

	"berth/internal/testwait"
	"berth/internal/wake"
)

// echoConn opens a connection to the database echo and checks that it works.
func echoConn(t *testing.T, c *Cluster, cert tls.Certificate) net.Conn {
	t.Helper()
	conn := dialALPN(t, c, cert, "teleport-mongodb")
	if err := ping(conn, testwait.Patience); err != nil {
		t.Fatalf("echo: %v", err)
	}
	return conn
}

// ping sends a byte and waits for it to come back, which alone may not take longer than
// patience.
func ping(conn net.Conn, patience time.Duration) error {
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

func mintEcho(t *testing.T, c *Cluster) tls.Certificate {
	t.Helper()
	return mintDB(t, c, loginCert(t, c, "alice"), proto.RouteToDatabase{ServiceName: "echo", Protocol: "mongodb"})
}

func dialTCP(t *testing.T, c *Cluster) error {
	t.Helper()
	d := net.Dialer{Timeout: testwait.Patience}
	conn, err := d.DialContext(t.Context(), "tcp", c.ProxyAddr())
	if err == nil {
		_ = conn.Close()
	}
	return err
}

func TestRefusingProxy(t *testing.T) {
	c := startDBs(t, Config{})
	conn := echoConn(t, c, mintEcho(t, c))
	port := c.Port()
	if err := c.Faults().Proxy(Refusing); err != nil {
		t.Fatal(err)
	}
	wantText(t, dialTCP(t, c), "connection refused")
	if err := ping(conn, testwait.Patience); err != nil {
		t.Errorf("an open connection must stay: %v", err)
	}
	if err := c.Faults().Proxy(Healthy); err != nil {
		t.Fatal(err)
	}
	if err := dialTCP(t, c); err != nil || c.Port() != port {
		t.Errorf("after the fault, on port %d (was %d): %v", c.Port(), port, err)
	}
}

func TestStopAndRestart(t *testing.T) {
	c := startDBs(t, Config{})
	cert := mintEcho(t, c)
	conn := echoConn(t, c, cert)
	c.Faults().Stop()
	if err := ping(conn, testwait.Patience); err == nil {
		t.Error("a connection survived the stop")
	}
	wantText(t, dialTCP(t, c), "connection refused")
	if err := c.Faults().Start(); err != nil {
		t.Fatal(err)
	}
	conn = echoConn(t, c, cert)
	if err := c.Faults().Restart(t.Context(), time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := ping(conn, testwait.Patience); err == nil {
		t.Error("a connection survived the restart")
	}
	echoConn(t, c, cert)
}

func TestAPIClientSurvivesARestart(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	clt := authClient(t, c, c.Root(), loginCert(t, c, "alice"))
	if _, err := clt.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Faults().Stop()
	if _, err := clt.Ping(t.Context()); err == nil {
		t.Error("a call to a stopped proxy succeeded")
	}
	if err := c.Faults().Start(); err != nil {
		t.Fatal(err)
	}
	testwait.Eventually(t, "the client is back", func() bool {
		wake.Sleep(t.Context(), 500*time.Millisecond) // many failing calls trip the client's circuit breaker
		_, err := clt.Ping(t.Context())
		return err == nil
	})
}

func TestDrop(t *testing.T) {
	c := startDBs(t, Config{})
	c.AddDatabase(Database{Name: "echo2", Protocol: "mongodb"})
	session := loginCert(t, c, "alice")
	one := echoConn(t, c, mintDB(t, c, session, proto.RouteToDatabase{ServiceName: "echo"}))
	two := echoConn(t, c, mintDB(t, c, session, proto.RouteToDatabase{ServiceName: "echo2"}))
	if n := c.Faults().DropDatabase("echo"); n != 1 {
		t.Errorf("%d connections dropped, want 1", n)
	}
	if err := ping(one, testwait.Patience); err == nil {
		t.Error("a dropped connection still works")
	}
	if err := ping(two, testwait.Patience); err != nil {
		t.Errorf("another database's connection: %v", err)
	}
	if n := c.Faults().Drop(); n < 1 {
		t.Errorf("%d connections dropped", n)
	}
	if err := ping(two, testwait.Patience); err == nil {
		t.Error("a dropped connection still works")
	}
}

func TestRefusingDatabase(t *testing.T) {
	c := startDBs(t, Config{})
	cert := mintEcho(t, c)
	c.Faults().Database("echo", Refusing)
	wantEOF(t, dialALPN(t, c, cert, "teleport-mongodb"))
	c.Faults().Database("echo", Healthy)
	echoConn(t, c, cert)
}

func TestStalledDatabase(t *testing.T) {
	c := startDBs(t, Config{})
	c.AddDatabase(Database{Name: "echo2", Protocol: "mongodb"})
	session := loginCert(t, c, "alice")
	cert := mintDB(t, c, session, proto.RouteToDatabase{ServiceName: "echo"})
	open := echoConn(t, c, cert)
	c.Faults().Database("echo", Stalled)
	fresh := dialALPN(t, c, cert, "teleport-mongodb")
	for name, conn := range map[string]net.Conn{"open": open, "fresh": fresh} {
		if err := ping(conn, 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s connection of a stalled database: %v, want silence", name, err)
		}
	}
	echoConn(t, c, mintDB(t, c, session, proto.RouteToDatabase{ServiceName: "echo2"}))
	c.Faults().Database("echo", Healthy)
	// The bytes sent meanwhile were late, not lost.
	if err := open.SetDeadline(time.Now().Add(testwait.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(open, make([]byte, 1)); err != nil {
		t.Errorf("after the stall: %v", err)
	}
}

func TestStalledProxy(t *testing.T) {
	c := startDBs(t, Config{})
	cert := mintEcho(t, c)
	if err := c.Faults().Proxy(Stalled); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{RootCAs: c.WebCAPool()}}
	// The second error: the time had passed before the connection was made.
	if _, err := d.DialContext(ctx, "tcp", c.ProxyAddr()); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("handshake with a stalled proxy: %v, want a timeout", err)
	}
	if err := c.Faults().Proxy(StalledAfterTLS); err != nil {
		t.Fatal(err)
	}
	conn := dialALPN(t, c, cert, "teleport-mongodb")
	if err := ping(conn, 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the handshake: %v, want silence", err)
	}
	if err := c.Faults().Clear(); err != nil {
		t.Fatal(err)
	}
	echoConn(t, c, cert)
}

func TestSlow(t *testing.T) {
	t.Parallel()
	c := startDBs(t, Config{})
	conn := echoConn(t, c, mintEcho(t, c))
	took := func() time.Duration {
		began := time.Now()
		if err := ping(conn, testwait.Patience); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
	const delay = 150 * time.Millisecond
	c.Faults().SlowDatabase("echo", Link{Delay: delay})
	if d := took(); d < delay {
		t.Errorf("delayed echo took %v, want at least %v", d, delay)
	}
	c.Faults().SlowDatabase("echo", Link{})
	c.Faults().SlowProxy(Link{BytesPerSecond: 200}) // one small TLS record is 23 bytes
	if d := took(); d < 100*time.Millisecond {
		t.Errorf("echo at 200 B/s took %v", d)
	}
	if err := c.Faults().Clear(); err != nil {
		t.Fatal(err)
	}
	testwait.Soon(t, "an echo after the fault", took(), delay)
}

func TestExpireSessions(t *testing.T) {
	c := startDBs(t, Config{})
	session := loginCert(t, c, "alice")
	cert := mintDB(t, c, session, proto.RouteToDatabase{ServiceName: "echo"})
	clt := authClient(t, c, c.Root(), session)
	if _, err := clt.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	open := echoConn(t, c, cert)
	c.Faults().ExpireSessions()
	conn, err := tryALPN(t, c, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"teleport-mongodb"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Read(make([]byte, 1))
	wantText(t, err, "bad certificate")
	if err := ping(open, testwait.Patience); err != nil {
		t.Errorf("an open connection must stay: %v", err)
	}
	req, key := newRequest(t, "alice", session.Leaf.NotAfter)
	certs, err := clt.GenerateUserCerts(t.Context(), *req)
	if err != nil {
		t.Fatal(err)
	}
	if end := certOf(t, certs, key).Leaf.NotAfter; end.After(time.Now()) {
		t.Errorf("an ended session minted a cert until %v", end)
	}
	echoConn(t, c, mintEcho(t, c)) // a new login is good again
}

func TestClockOffset(t *testing.T) {
	c := startDBs(t, Config{})
	cert := mintDB(t, c, loginCert(t, c, "alice", WithTTL(time.Hour)), proto.RouteToDatabase{ServiceName: "echo"})
	c.Faults().ClockOffset(2 * time.Hour)
	conn := dialALPN(t, c, cert, "teleport-mongodb")
	_, err := conn.Read(make([]byte, 1))
	wantText(t, err, "expired certificate")
	ahead := loginCert(t, c, "alice")
	if d := time.Until(ahead.Leaf.NotBefore); d < time.Hour {
		t.Errorf("a cert of a clock 2 h ahead begins in %v", d)
	}
	c.Faults().ClockOffset(0)
	echoConn(t, c, cert)
}

func TestRPCFaults(t *testing.T) {
	c := start(t, Config{})
	clt := authClient(t, c, c.Root(), loginCert(t, c, "alice"))
	c.Faults().RPCError("Ping", trace.AccessDenied("no ping today"))
	if _, err := clt.Ping(t.Context()); !trace.IsAccessDenied(err) {
		t.Errorf("Ping: %v, want access denied", err)
	}
	if _, err := clt.GetDomainName(t.Context()); err != nil {
		t.Errorf("another call: %v", err)
	}
	c.Faults().RPCError("Ping", nil)
	c.Faults().RPCDelay("", 100*time.Millisecond)
	began := time.Now()
	if _, err := clt.Ping(t.Context()); err != nil || time.Since(began) < 100*time.Millisecond {
		t.Errorf("delayed Ping took %v, %v", time.Since(began), err)
	}
	c.Faults().RPCDelay("", time.Hour)
	answered := make(chan error, 1)
	go func() { _, err := clt.Ping(t.Context()); answered <- err }()
	testwait.Eventually(t, "the call waits", func() bool { return c.Counters().RPCs["Ping"] == 3 })
	if err := c.Faults().Clear(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("a call that waited when the delay was undone: %v", err)
	}
	if n := c.Counters().RPCs; n["Ping"] != 3 || n["GetDomainName"] != 1 {
		t.Errorf("calls counted: %v", n)
	}
}

func TestDisconnectExpiredCert(t *testing.T) {
	for _, disconnect := range []bool{false, true} {
		c := startDBs(t, Config{Roles: []Role{{Name: "access", DisconnectExpiredCert: disconnect}}})
		session := loginCert(t, c, "alice", WithTTL(time.Hour))
		conn := echoConn(t, c, mintDB(t, c, session, proto.RouteToDatabase{ServiceName: "echo"}))
		c.Faults().ClockOffset(time.Until(session.Leaf.NotAfter) + time.Second)
		if disconnect {
			testwait.Eventually(t, "the connection ends", func() bool { return ping(conn, testwait.Patience) != nil })
		} else if err := ping(conn, testwait.Patience); err != nil {
			t.Errorf("without disconnect_expired_cert: after the end %v", err)
		}
	}
}

func TestCounters(t *testing.T) {
	c := startDBs(t, Config{})
	conn := echoConn(t, c, mintEcho(t, c))
	n := c.Counters()
	if n.Logins != 1 || n.Mints["db/echo"] != 1 || n.DBOpen["echo"] != 1 || n.DBTotal["echo"] != 1 ||
		n.RPCs["GenerateUserCerts"] != 1 || n.Accepted < 2 || n.Open < 1 {
		t.Errorf("counters: %+v", n)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	testwait.Eventually(t, "the connection is counted out", func() bool { return c.Counters().DBOpen["echo"] == 0 })
	if n := c.Counters(); n.DBTotal["echo"] != 1 {
		t.Errorf("total after the end: %+v", n)
	}
}
