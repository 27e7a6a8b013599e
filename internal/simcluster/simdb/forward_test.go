package simdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// to dials addr.
func to(addr string) Dialer {
	return func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", addr) }
}

// half checks that bytes and the half-close come back through addr.
func half(t *testing.T, addr *net.TCPAddr) {
	t.Helper()
	conn, err := net.DialTCP("tcp", nil, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	const size = 1 << 20
	go func() {
		_, _ = conn.Write(make([]byte, size))
		_ = conn.CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, conn); n != size || err != nil {
		t.Errorf("%d bytes came back, %v; want %d", n, err, size)
	}
}

func TestEchoAndForward(t *testing.T) {
	echo := serve(t, Echo{}, testSession())
	half(t, echo)
	half(t, serve(t, Forward{Dial: to(echo.String())}, testSession()))
}

func TestRefusedWithoutAProtocol(t *testing.T) {
	for _, b := range []Backend{Echo{}, Forward{Dial: to("127.0.0.1:1")}} {
		conn, err := net.Dial("tcp", serve(t, b, refuse()).String())
		if err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("%T: %d, %v, want EOF", b, n, err)
		}
		_ = conn.Close()
	}
}

func TestForwardToNobody(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := ln.Addr().String()
	_ = ln.Close()
	conn, err := net.Dial("tcp", serve(t, Forward{Dial: to(dead)}, testSession()).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want EOF", err)
	}
}

func TestForwardPostgres(t *testing.T) {
	backing := serve(t, NewPostgres(), testSession())
	addr := serve(t, ForwardPostgres{Dial: to(backing.String())}, testSession())
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://bob@%s/app?sslmode=prefer", addr))
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
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = pgx.Connect(t.Context(), fmt.Sprintf("postgres://bob@%s/app?sslmode=disable", serve(t, ForwardPostgres{Dial: to(backing.String())}, refuse())))
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Message != "access to db denied" {
		t.Errorf("refused client got %v", err)
	}
}

// What the client cert says reaches the server as settings.
func TestForwardPostgresSettings(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	got := make(chan map[string]string, 1)
	go func() {
		defer server.Close()
		packet, err := startupPacket(server)
		if err != nil {
			packet = make([]byte, 8)
		}
		got <- startupParams(packet[8:])
	}()
	f := ForwardPostgres{Dial: func(context.Context) (net.Conn, error) { return client, nil }}
	_, _ = pgx.Connect(t.Context(), fmt.Sprintf("postgres://bob@%s/app?sslmode=disable", serve(t, f, testSession())))
	params := <-got
	for name, want := range map[string]string{"user": "bob", "teleport.serial": "4711", "teleport.roles": "access,dba"} {
		if params[name] != want {
			t.Errorf("%s = %q, want %q in %v", name, params[name], want, params)
		}
	}
}

func TestForwardMySQL(t *testing.T) {
	f := ForwardMySQL{Dial: to(serve(t, NewMySQL(), testSession()).String())}
	var user, version string
	err := myClient(t, f, testSession()).QueryRowContext(t.Context(), "select current_user(), version()").Scan(&user, &version)
	if err != nil || user != "bob@localhost" || version != mysqlVersion {
		t.Errorf("through a service: %s, %s, %v", user, version, err)
	}
	var my *mysql.MySQLError
	if err := myClient(t, f, refuse()).PingContext(t.Context()); !errors.As(err, &my) || my.Message != "access to db denied" {
		t.Errorf("a refused client got %v", err)
	}
	if version, err := f.Version(t.Context()); err != nil || version != testSession().ServerVersion {
		t.Errorf("its version is %q, %v", version, err)
	}
	f.Dial = func(context.Context) (net.Conn, error) { return nil, errors.New("no server") }
	if version, err := f.Version(t.Context()); err == nil {
		t.Errorf("without a server the version is %q", version)
	}
	if err := myClient(t, f, testSession()).PingContext(t.Context()); !errors.As(err, &my) || my.Message != "no server" {
		t.Errorf("without a server a client got %v", err)
	}
}

// A client is not offered what ends at the service: TLS and compression.
func TestPlainGreeting(t *testing.T) {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		_ = NewMySQL().Serve(t.Context(), server, testSession())
	}()
	defer client.Close()
	packet, err := readPacket(client)
	if err != nil {
		t.Fatal(err)
	}
	at := 4 + 1 + len(testSession().ServerVersion) + 1 + 4 + 8 + 1
	packet[at] |= 1 << 5   // compression
	packet[at+1] |= 1 << 3 // TLS
	packet[at+6] |= 1 << 2 // zstd, in the upper half
	got, err := readPacket(bytes.NewReader(plainGreeting(packet, "5.7.44")))
	if err != nil {
		t.Fatal(err)
	}
	if version, _, _ := bytes.Cut(got[5:], []byte{0}); string(version) != "5.7.44" {
		t.Errorf("version %q", version)
	}
	at -= len(testSession().ServerVersion) - len("5.7.44")
	if got[at]&(1<<5) != 0 || got[at+1]&(1<<3) != 0 || got[at+6]&(1<<2) != 0 || got[at+1]&(1<<7) == 0 {
		t.Errorf("capabilities % x", got[at:at+7])
	}
	for n := range packet[4:] { // what is cut short is passed on
		short := append([]byte{byte(n), 0, 0, 0}, packet[4:4+n]...)
		if _, err := readPacket(bytes.NewReader(plainGreeting(short, ""))); err != nil {
			t.Errorf("a greeting of %d bytes: %v", n, err)
		}
	}
}
