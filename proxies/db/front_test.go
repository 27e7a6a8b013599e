package db_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"berth/internal/simcluster/simdb"
	"berth/internal/testneeds"
	"berth/internal/testwait"
	"berth/internal/wake"
	"berth/proxies"
	"berth/proxies/db"
	"berth/proxies/kube"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// fronted is a tunnel of a protocol whose clients may ask for TLS.
type fronted struct {
	*proxies.Tunnel
	host, port string
	ca         string // the file of the local CA's cert
	roots      *x509.CertPool
	events     chan proxies.Event
}

// front runs a tunnel of the protocol to what dial reaches.
func front(t *testing.T, protocol string, source proxies.Source, change ...func(*proxies.Config, *db.FrontConfig)) *fronted {
	t.Helper()
	store := kube.CAStore{File: kube.FileStore(filepath.Join(t.TempDir(), "kube-ca.pem"))}
	ca, err := store.Make(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := &fronted{ca: filepath.Join(t.TempDir(), "ca.pem"), roots: x509.NewCertPool(), events: make(chan proxies.Event, 100)}
	if err := os.WriteFile(f.ca, ca.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	f.roots.AppendCertsFromPEM(ca.CAPEM())
	fc := db.FrontConfig{Protocol: func() string { return protocol }, Cert: ca.ServerCert}
	proto, _ := db.Lookup(protocol)
	cfg := proxies.Config{
		Name: protocol, Hosts: []string{"127.0.0.1"}, Source: source, Listen: func() proxies.Ear { return proto.Listen() },
		Refuse: func(client net.Conn, err error) {
			_ = proto.Refuse(client, db.Refusal{Title: "tunnel x: login needed", Text: err.Error(), Kind: db.RefusalLogin})
		},
		OnEvent: func(e proxies.Event) { f.events <- e },
	}
	for _, c := range change {
		c(&cfg, &fc)
	}
	cfg.Front = func(client *net.TCPConn, said []byte) proxies.Front { return db.NewFront(client, said, fc) }
	f.Tunnel = proxies.New(cfg)
	if err := f.Bind(); err != nil {
		t.Fatal(err)
	}
	if f.host, f.port, err = net.SplitHostPort(f.Status().Addresses[0]); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

// ended waits for the next connection's end.
func (f *fronted) ended(t *testing.T) proxies.Event {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case e := <-f.events:
			if e.Kind == proxies.EventClosed || e.Kind == proxies.EventRefused {
				return e
			}
		case <-limit:
			t.Fatal("no connection has ended")
		}
	}
}

// simulated is a Source of connections to a simulated database.
func simulated(t *testing.T, b simdb.Backend, s simdb.Session) proxies.Source {
	t.Helper()
	return serving(t, func(conn net.Conn) { _ = b.Serve(t.Context(), conn, s) })
}

// serving is a Source of connections to a server.
func serving(t *testing.T, handle func(net.Conn)) proxies.Source {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return func(context.Context) (proxies.Dial, error) {
		return func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
		}, nil
	}
}

// held is a Source without a login.
func held(ctx context.Context) (proxies.Dial, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// program runs a client and returns what it printed.
func program(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, testneeds.Program(t, name), args...)
	cmd.Env = []string{"HOME=" + t.TempDir(), "LC_ALL=C", "PATH=" + os.Getenv("PATH"), "PGCONNECT_TIMEOUT=10"}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func psqlTo(f *fronted, more string) string {
	return fmt.Sprintf("host=%s port=%s user=bob dbname=app %s", f.host, f.port, more)
}

func TestPostgresModes(t *testing.T) {
	t.Parallel()
	f := front(t, "postgres", simulated(t, simdb.NewPostgres(), simdb.Session{}))
	for mode, want := range map[string]bool{
		"disable": false, "allow": false, "prefer": true, "require": true, "verify-ca": true, "verify-full": true,
	} {
		t.Run(mode, func(t *testing.T) {
			out, err := program(t, "psql", psqlTo(f, "sslmode="+mode+" sslrootcert="+f.ca), "--no-psqlrc",
				"-Atc", `\conninfo`, "-c", "select current_user")
			if err != nil || !strings.HasSuffix(out, "bob") || strings.Contains(out, "SSL connection") != want {
				t.Errorf("psql: %v: %s; want TLS: %v", err, out, want)
			}
			if e := f.ended(t); e.Err != nil || e.BytesIn == 0 || e.BytesOut == 0 {
				t.Errorf("ended with %v after %d and %d bytes", e.Err, e.BytesIn, e.BytesOut)
			}
		})
	}
	t.Run("channel_binding", func(t *testing.T) { // a login without a password has nothing to bind
		out, err := program(t, "psql", psqlTo(f, "channel_binding=require sslmode=require"), "--no-psqlrc", "-c", "select 1")
		if err == nil || !strings.Contains(out, "server authenticated client without channel binding") {
			t.Errorf("psql: %v: %s", err, out)
		}
		f.ended(t)
	})
	t.Run("another CA", func(t *testing.T) {
		other := front(t, "postgres", simulated(t, simdb.NewPostgres(), simdb.Session{}))
		out, err := program(t, "psql", psqlTo(f, "sslmode=verify-ca sslrootcert="+other.ca), "--no-psqlrc", "-c", "select 1")
		if err == nil || !strings.Contains(out, "certificate verify failed") {
			t.Errorf("psql: %v: %s", err, out)
		}
		if e := f.ended(t); e.Err == nil || !strings.Contains(e.Err.Error(), "TLS handshake: ") {
			t.Errorf("the event says %v", e.Err)
		}
		if s := f.Status(); s.LastError != nil {
			t.Errorf("the client's mistrust is the tunnel's error: %v", s.LastError)
		}
	})
}

// TestPostgresWithoutCert: without a CA a client gets the answer it always got.
func TestPostgresWithoutCert(t *testing.T) {
	f := front(t, "postgres", simulated(t, simdb.NewPostgres(), simdb.Session{}), func(_ *proxies.Config, fc *db.FrontConfig) {
		fc.Cert = func() (*tls.Certificate, error) { return nil, errors.New("no CA") }
	})
	if out, err := program(t, "psql", psqlTo(f, "sslmode=prefer"), "--no-psqlrc", "-Atc", "select current_user"); err != nil || out != "bob" {
		t.Errorf("prefer: %v: %s", err, out)
	}
	out, err := program(t, "psql", psqlTo(f, "sslmode=require"), "--no-psqlrc", "-Atc", "select current_user")
	if err == nil || !strings.Contains(out, "server does not support SSL") {
		t.Errorf("require: %v: %s", err, out)
	}
}

// TestPostgresHeld: a client with TLS is held, and refused inside it.
func TestPostgresHeld(t *testing.T) {
	t.Parallel()
	for _, known := range []string{"postgres", ""} {
		f := front(t, "postgres", held, func(cfg *proxies.Config, fc *db.FrontConfig) {
			cfg.Hold = 4 * time.Second // its first words must have come by then
			fc.Protocol = func() string { return known }
			if known == "" {
				cfg.Refuse = func(client net.Conn, _ error) {
					_ = db.RefuseUnknown(client, db.Refusal{Title: "tunnel x: login needed"})
				}
			}
		})
		out, err := program(t, "psql", psqlTo(f, "sslmode=verify-full sslrootcert="+f.ca), "--no-psqlrc", "-c", "select 1")
		if err == nil || !strings.Contains(out, "FATAL:  tunnel x: login needed") {
			t.Errorf("protocol %q: psql: %v: %s", known, err, out)
		}
		if e := f.ended(t); e.Kind != proxies.EventRefused {
			t.Errorf("it ended as %v, %v", e.Kind, e.Err)
		}
	}
}

// TestPostgresGSSENC: a client that asks for GSSAPI encryption first.
func TestPostgresGSSENC(t *testing.T) {
	f := front(t, "postgres", simulated(t, simdb.NewPostgres(), simdb.Session{}))
	conn := dial(t, f)
	answer := make([]byte, 1)
	for i, ask := range []string{"\x00\x00\x00\x08\x04\xd2\x16\x30", "\x00\x00\x00\x08\x04\xd2\x16\x2f"} {
		if _, err := io.WriteString(conn, ask); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != "NS"[i] {
			t.Fatalf("request %d: %q, %v", i, answer, err)
		}
	}
	secure := tls.Client(conn, &tls.Config{RootCAs: f.roots, ServerName: "localhost"})
	if _, err := io.WriteString(secure, "\x00\x00\x00\x08\x04\xd2\x16\x2f"); err != nil { // a second time, in TLS
		t.Fatal(err)
	}
	if _, err := io.ReadFull(secure, answer); err != nil || answer[0] != 'N' {
		t.Fatalf("in TLS: %q, %v", answer, err)
	}
}

// TestPostgresDeclinesAtOnce: GSSAPI encryption is declined while there is no
// upstream yet, and only a second request goes on to it.
func TestPostgresDeclinesAtOnce(t *testing.T) {
	f := front(t, "postgres", func(ctx context.Context) (proxies.Dial, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}, func(c *proxies.Config, _ *db.FrontConfig) { c.Hold = time.Minute })
	conn := dial(t, f)
	answer := make([]byte, 1)
	if _, err := io.WriteString(conn, asksGSSENC+asksGSSENC); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 'N' {
		t.Fatalf("answered %q, %v", answer, err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := conn.Read(answer); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the second request was answered %q, %v", answer, err)
	}
}

const asksGSSENC = "\x00\x00\x00\x08\x04\xd2\x16\x30"

func dial(t *testing.T, f *fronted) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort(f.host, f.port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// TestPostgresDirect: sslnegotiation=direct, with and without the verification
// of names, and a cancel in TLS.
func TestPostgresDirect(t *testing.T) {
	f := front(t, "postgres", simulated(t, simdb.NewPostgres(), simdb.Session{}))
	for _, negotiation := range []string{"direct", "postgres"} {
		url := fmt.Sprintf("postgres://bob@%s:%s/app?sslmode=verify-full&sslrootcert=%s&sslnegotiation=%s", f.host, f.port, f.ca, negotiation)
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		if err := conn.QueryRow(t.Context(), "select current_user").Scan(&got); err != nil || got != "bob" {
			t.Errorf("current_user = %q, %v", got, err)
		}
		if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
			t.Errorf("cancel: %v", err)
		}
		if e := f.ended(t); e.Err != nil {
			t.Errorf("the cancel's connection ended with %v", e.Err)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if e := f.ended(t); e.Err != nil {
			t.Errorf("the connection ended with %v", e.Err)
		}
	}
	_, err := tls.Dial("tcp", net.JoinHostPort(f.host, f.port), &tls.Config{RootCAs: f.roots, NextProtos: []string{"h2"}})
	if err == nil {
		t.Error("a client of another protocol has its handshake")
	}
}

// TestPostgresHungUpOn: an upstream that hangs up is told of inside TLS.
func TestPostgresHungUpOn(t *testing.T) {
	f := front(t, "postgres", serving(t, func(conn net.Conn) { _, _ = io.ReadFull(conn, make([]byte, 8)) }))
	_, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://bob@%s:%s/app?sslmode=require", f.host, f.port))
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || !strings.Contains(pg.Message, "login needed") {
		t.Errorf("the client got %v", err)
	}
}

// mysqlCapabilities is a Source of connections to a simulated MySQL, with what
// that saw of each login: its number and its first capabilities.
func mysqlCapabilities(t *testing.T, b simdb.Backend) (proxies.Source, func() [][4]byte) {
	t.Helper()
	var mu sync.Mutex
	var seen [][4]byte
	src := serving(t, func(conn net.Conn) {
		_ = b.Serve(t.Context(), &tapped{Conn: conn, first: func(p []byte) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, [4]byte(p[3:7]))
		}}, simdb.Session{})
	})
	return src, func() [][4]byte {
		mu.Lock()
		defer mu.Unlock()
		return seen
	}
}

// tapped is a connection whose first bytes are looked at.
type tapped struct {
	net.Conn
	got   []byte
	first func([]byte)
}

func (c *tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.first != nil {
		if c.got = append(c.got, p[:n]...); len(c.got) >= 8 {
			c.first(c.got)
			c.first = nil
		}
	}
	return n, err
}

func TestMySQLClients(t *testing.T) {
	t.Parallel()
	src, seen := mysqlCapabilities(t, simdb.NewMySQL())
	f := front(t, "mysql", src)
	base := []string{"--no-defaults", "--protocol=TCP", "-h", f.host, "-P", f.port, "-u", "bob", "-Ne", "select current_user()"}
	for name, tt := range map[string]struct {
		args []string
		tls  bool
	}{
		"default": {nil, true}, "ssl": {[]string{"--ssl"}, true}, "ca": {[]string{"--ssl", "--ssl-ca=" + f.ca}, true},
		"verified": {[]string{"--ssl", "--ssl-ca=" + f.ca, "--ssl-verify-server-cert"}, true}, "skip": {[]string{"--skip-ssl"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(seen())
			out, err := program(t, "mariadb", append(base, tt.args...)...)
			if err != nil || !strings.Contains(out, "bob@localhost") {
				t.Errorf("mariadb: %v: %s", err, out)
			}
			if e := f.ended(t); e.Err != nil {
				t.Errorf("ended with %v", e.Err)
			}
			if out, err = program(t, "mariadb", append(append([]string{}, base[:len(base)-1]...), append([]string{`\s`}, tt.args...)...)...); err != nil ||
				strings.Contains(out, "Cipher in use") != tt.tls {
				t.Errorf("mariadb: %v: %s; want TLS: %v", err, out, tt.tls)
			}
			f.ended(t)
			for _, login := range seen()[before:] {
				if login[0] != 1 || login[2]&8 != 0 {
					t.Errorf("the server saw a login numbered %d, with capabilities %x", login[0], login[1:])
				}
			}
		})
	}
	t.Run("another CA", func(t *testing.T) {
		other := front(t, "mysql", src)
		out, err := program(t, "mariadb", append(base, "--ssl", "--ssl-ca="+other.ca, "--ssl-verify-server-cert")...)
		if err == nil || !strings.Contains(out, "SSL error") {
			t.Errorf("mariadb: %v: %s", err, out)
		}
		f.ended(t)
	})
}

func TestMySQLDriver(t *testing.T) {
	f := front(t, "mariadb", simulated(t, simdb.NewMySQL(), simdb.Session{}))
	if err := mysql.RegisterTLSConfig("berth", &tls.Config{RootCAs: f.roots, ServerName: "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	defer mysql.DeregisterTLSConfig("berth")
	for _, mode := range []string{"berth", "skip-verify", "preferred", "false"} {
		pool, err := sql.Open("mysql", fmt.Sprintf("bob@tcp(%s)/app?tls=%s", net.JoinHostPort(f.host, f.port), mode))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			var user, name string
			if err := pool.QueryRowContext(t.Context(), "select current_user(), database()").Scan(&user, &name); err != nil || user != "bob@localhost" || name != "app" {
				t.Errorf("%s: %s on %s, %v", mode, user, name, err)
			}
		}
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
		f.ended(t)
	}
}

// TestMySQLRefused: the server refuses a login in TLS, and so does berth.
func TestMySQLRefused(t *testing.T) {
	t.Parallel()
	no := simdb.Session{Authorize: func(string, string) error { return errors.New("access to db denied") }}
	for want, src := range map[string]proxies.Source{"access to db denied": simulated(t, simdb.NewMySQL(), no), "login needed": held} {
		f := front(t, "mysql", src, func(cfg *proxies.Config, _ *db.FrontConfig) { cfg.Hold = 500 * time.Millisecond })
		out, err := program(t, "mariadb", "--no-defaults", "--protocol=TCP", "-h", f.host, "-P", f.port, "-u", "bob", "--ssl", "-e", "select 1")
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("mariadb: %v: %s; want %q", err, out, want)
		}
	}
}

// TestMySQLSwitchesAuth has the server ask for another kind of authentication,
// with everything in as small pieces as can be.
func TestMySQLSwitchesAuth(t *testing.T) {
	greeting := packet(0, "\x0a8.0.0\x00\x01\x00\x00\x00abcdefgh\x00\x00\x82\x21\x02\x00\x08\x00\x15"+strings.Repeat("\x00", 10)+"ijklmnopqrst\x00mysql_native_password\x00")
	heard := make(chan []byte, 10)
	f := front(t, "mysql", serving(t, func(conn net.Conn) {
		say := func(p []byte) {
			for i := range p {
				_, _ = conn.Write(p[i : i+1])
				wake.Sleep(t.Context(), time.Millisecond)
			}
		}
		hear := func() {
			head := make([]byte, 4)
			if _, err := io.ReadFull(conn, head); err != nil {
				return
			}
			body := make([]byte, int(head[0]))
			_, _ = io.ReadFull(conn, body)
			heard <- append(head, body...)
		}
		say(greeting)
		hear()
		say(packet(2, "\xfesha256_password\x00salt\x00"))
		hear()
		say(append(packet(4, "\x01\x03"), packet(5, "\x00\x00\x00\x02\x00\x00\x00")...))
		hear()
		say(packet(1, "\x00\x00\x00\x02\x00\x00\x00"))
	}))
	conn := dial(t, f)
	got := make([]byte, len(greeting))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	at := 4 + 1 + 6 + 4 + 8 + 1
	if got[at+1] != greeting[at+1]|8 {
		t.Errorf("capabilities % x", got[at:at+2])
	}
	got[at+1] &^= 8
	if string(got) != string(greeting) {
		t.Errorf("the greeting is %q", got)
	}
	if _, err := conn.Write(packet(1, "\x85\xae\xff\x19"+strings.Repeat("\x00", 28))); err != nil {
		t.Fatal(err)
	}
	secure := tls.Client(conn, &tls.Config{RootCAs: f.roots, ServerName: "127.0.0.1"})
	login := "\x85\xae\xff\x19" + strings.Repeat("\x00", 28) + "bob\x00\x00"
	expect := func(want []byte) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(secure, got); err != nil || string(got) != string(want) {
			t.Fatalf("the client hears %q, %v; want %q", got, err, want)
		}
	}
	for _, p := range packet(2, login) {
		if _, err := secure.Write([]byte{p}); err != nil {
			t.Fatal(err)
		}
	}
	expect(packet(3, "\xfesha256_password\x00salt\x00"))
	_, _ = secure.Write(packet(4, "\x00"))
	expect(append(packet(5, "\x01\x03"), packet(6, "\x00\x00\x00\x02\x00\x00\x00")...))
	_, _ = secure.Write(packet(0, "\x03select 1"))
	expect(packet(1, "\x00\x00\x00\x02\x00\x00\x00"))
	for _, want := range [][]byte{packet(1, "\x85\xa6"+login[2:]), packet(3, "\x00"), packet(0, "\x03select 1")} {
		if got := <-heard; string(got) != string(want) {
			t.Errorf("the server hears %q, want %q", got, want)
		}
	}
}

// TestMySQLGreetingInPieces: of a greeting whose beginning came before the client spoke,
// or after which the server hung up, the client hears everything.
func TestMySQLGreetingInPieces(t *testing.T) {
	greeting, login := packet(0, "\x0a8.0.0\x00"+strings.Repeat("x", 50)), packet(1, strings.Repeat("y", 40))
	const first = 20
	for _, speaks := range []bool{true, false} {
		f := front(t, "mysql", serving(t, func(conn net.Conn) {
			_, _ = conn.Write(greeting[:first])
			if !speaks {
				return
			}
			if _, err := io.ReadFull(conn, make([]byte, len(login))); err == nil {
				_, _ = conn.Write(greeting[first:])
			}
		}))
		conn, want := dial(t, f), greeting[:first]
		testwait.Eventually(t, "the beginning is there", func() bool { return f.Status().BytesIn == first })
		if speaks {
			want = greeting
			if _, err := conn.Write(login); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != string(want) {
			t.Errorf("a client that speaks (%v) hears %q, %v; want %q", speaks, got, err, want)
		}
	}
}

// packet is one of MySQL's, with its number.
func packet(number byte, body string) []byte {
	return append([]byte{byte(len(body)), 0, 0, number}, body...)
}
