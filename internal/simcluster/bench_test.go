package simcluster

import (
	"crypto/tls"
	"io"
	"testing"

	"github.com/gravitational/teleport/api/client/proto"

	"berth/internal/simcluster/simdb"
)

// BenchmarkEcho is what the simulated proxy itself carries: a figure for
// others to be seen against.
func BenchmarkEcho(b *testing.B) {
	c, err := Start(Config{Databases: []Database{{Name: "echo", Protocol: "mongodb", Backend: simdb.Echo{}}}})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	u, _ := c.user("alice")
	key, err := NewKey(ECDSA)
	if err != nil {
		b.Fatal(err)
	}
	id := c.loginIdentity(u)
	id.DBService = "echo"
	certs, err := c.issue(order{identity: id, notAfter: c.now().Add(c.cfg.SessionTTL), tls: key.Public()})
	if err != nil {
		b.Fatal(err)
	}
	cert := certOf(b, &proto.Certs{TLS: certs.tls}, key)
	d := tls.Dialer{Config: &tls.Config{
		Certificates: []tls.Certificate{cert}, NextProtos: []string{"teleport-mongodb"}, RootCAs: c.WebCAPool(), ServerName: c.ProxyHost(),
	}}
	conn, err := d.DialContext(b.Context(), "tcp", c.ProxyAddr())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	const chunk = 32 << 10
	b.SetBytes(chunk)
	go func() {
		buf := make([]byte, chunk)
		for range b.N {
			if _, err := conn.Write(buf); err != nil {
				return
			}
		}
	}()
	b.ResetTimer()
	if _, err := io.CopyN(io.Discard, conn, int64(b.N)*chunk); err != nil {
		b.Fatal(err)
	}
}
