package simcluster

import (
	"bufio"
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/gravitational/teleport/api/client/proto"

	"berth/internal/simcluster/simdb"
	"berth/internal/testwait"
)

// myPing logs in to a MySQL over a connection.
func myPing(t *testing.T, conn net.Conn) (version string, err error) {
	t.Helper()
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr = "bob", "tunnel", "sim"
	cfg.DialFunc = func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	err = db.QueryRowContext(t.Context(), "select version()").Scan(&version)
	return version, err
}

// redisPing says PING over a connection.
func redisPing(conn net.Conn) (string, error) {
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

func TestEachProtocolServesAndRefuses(t *testing.T) {
	c := startDBs(t, Config{
		Roles: []Role{defaultRole(), {Name: "none", NoDatabases: true}},
		Users: []User{{Name: "alice"}, {Name: "mallory", Roles: []string{"none"}}},
	})
	mint := func(user, db string) tls.Certificate {
		return mintDB(t, c, loginCert(t, c, user), proto.RouteToDatabase{ServiceName: db},
			func(r *proto.UserCertsRequest) { r.Username = user })
	}
	if _, err := pgConnect(t, dialALPN(t, c, mint("alice", "pg"), "teleport-postgres"), "bob"); err != nil {
		t.Errorf("postgres: %v", err)
	}
	if version, err := myPing(t, dialALPN(t, c, mint("alice", "my"), "teleport-mysql")); err != nil || version != "8.0.36" {
		t.Errorf("mysql: version %q, %v", version, err)
	}
	if answer, err := redisPing(dialALPN(t, c, mint("alice", "kv"), "teleport-redis-ping")); err != nil || answer != "+PONG\r\n" {
		t.Errorf("redis: %q, %v", answer, err)
	}
	// Minted all the same, and refused in the protocol's own words.
	const denied = "access to db denied"
	_, err := pgConnect(t, dialALPN(t, c, mint("mallory", "pg"), "teleport-postgres"), "bob")
	wantText(t, err, denied)
	_, err = myPing(t, dialALPN(t, c, mint("mallory", "my"), "teleport-mysql"))
	wantText(t, err, denied)
	if answer, err := redisPing(dialALPN(t, c, mint("mallory", "kv"), "teleport-redis")); err != nil || !strings.HasPrefix(answer, "-ERR Teleport: "+denied) {
		t.Errorf("redis refusal: %q, %v", answer, err)
	}
}

// A proxy greets with the version that a client asks for in ALPN only as long
// as no cert names a database; else with the database's own, if the service
// has found one.
func TestMySQLGreetings(t *testing.T) {
	c := startDBs(t, Config{})
	away := func(context.Context) (net.Conn, error) { return nil, errors.New("not started yet") }
	c.Root().AddDatabase(Database{Name: "late", Protocol: "mysql", Backend: simdb.ForwardMySQL{Dial: away}})
	known := mintDB(t, c, loginCert(t, c, "alice"), proto.RouteToDatabase{ServiceName: "my"})
	session := loginCert(t, c, "alice")
	const wanted = "teleport-mysql-OC4wLjE4" // base64 of 8.0.18
	for _, tt := range []struct {
		name, want string
		cert       tls.Certificate
		alpn       []string
	}{
		{"own", "8.0.36", known, []string{"teleport-mysql-ping", "teleport-mysql", wanted}},
		{"asked_for", "8.0.18", session, []string{"teleport-mysql", wanted}},
		{"ping_is_no_version", "8.0.0-Teleport", session, []string{"teleport-mysql-ping", "teleport-mysql"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := dialALPN(t, c, tt.cert, tt.alpn...)
			greeting := make([]byte, 64)
			if _, err := io.ReadFull(conn, greeting); err != nil {
				t.Fatal(err)
			}
			if got, _, _ := strings.Cut(string(greeting[5:]), "\x00"); got != tt.want {
				t.Errorf("greeted with %q, want %q", got, tt.want)
			}
		})
	}
	if db, ok := c.Root().database("late"); !ok || db.version != "" {
		t.Errorf("a database that came later has the version %q", db.version)
	}
}

func TestDatabaseUserAndNameAreChecked(t *testing.T) {
	c := startDBs(t, Config{Roles: []Role{{Name: "access", DBUsers: []string{"reader"}, DBNames: []string{"appdb"}}}})
	cert := mintDB(t, c, loginCert(t, c, "alice"), proto.RouteToDatabase{ServiceName: "pg", Username: "writer"})
	// The client's own words count, not the cert's.
	if _, err := pgConnect(t, dialALPN(t, c, cert, "teleport-postgres"), "reader"); err != nil {
		t.Errorf("an allowed user: %v", err)
	}
	_, err := pgConnect(t, dialALPN(t, c, cert, "teleport-postgres"), "writer")
	wantText(t, err, "access to db denied")
}

// A TLS session whose cert has ended is not resumed, and the cert is refused.
func TestExpiredSessionIsNotResumed(t *testing.T) {
	c := startDBs(t, Config{})
	cert := mintDB(t, c, loginCert(t, c, "alice", WithTTL(time.Hour)), proto.RouteToDatabase{ServiceName: "echo"})
	cfg := func() *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"teleport-mongodb"}}
	}
	cache := tls.NewLRUClientSessionCache(1)
	for i, offset := range []time.Duration{0, 0, 2 * time.Hour} {
		c.Faults().ClockOffset(offset)
		shared := cfg()
		shared.ClientSessionCache = cache
		conn, err := tryALPN(t, c, shared)
		if err != nil {
			t.Fatal(err)
		}
		if resumed := conn.(*tls.Conn).ConnectionState().DidResume; resumed != (i == 1) {
			t.Errorf("connection %d: resumed %v", i, resumed)
		}
		if err := ping(conn, testwait.Patience); (err != nil) != (offset > 0) {
			t.Errorf("connection %d: %v", i, err)
		}
	}
}

// TestPieces: a PostgreSQL's result comes in the pieces that Teleport sends.
func TestPieces(t *testing.T) {
	var sizes []int
	conn := inPieces(sizesConn{sizes: &sizes}, route{proto: "teleport-postgres-ping"})
	if n, err := conn.Write(make([]byte, 20_000)); n != 20_000 || err != nil {
		t.Fatalf("Write = %d, %v", n, err)
	}
	if want := []int{8192, 8192, 3616}; !slices.Equal(sizes, want) {
		t.Errorf("it was sent as %v, want %v", sizes, want)
	}
}

type sizesConn struct {
	halfCloser
	sizes *[]int
}

func (c sizesConn) Write(p []byte) (int, error) {
	*c.sizes = append(*c.sizes, len(p))
	return len(p), nil
}
