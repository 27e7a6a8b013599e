package simdb

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

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
	half(t, serve(t, Forward{Addr: echo.String()}, testSession()))
}

func TestRefusedWithoutAProtocol(t *testing.T) {
	for _, b := range []Backend{Echo{}, Forward{Addr: "127.0.0.1:1"}} {
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
	conn, err := net.Dial("tcp", serve(t, Forward{Addr: dead}, testSession()).String())
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
	addr := serve(t, ForwardPostgres{Addr: backing.String()}, testSession())
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
	_, err = pgx.Connect(t.Context(), fmt.Sprintf("postgres://bob@%s/app?sslmode=disable", serve(t, ForwardPostgres{Addr: backing.String()}, refuse())))
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Message != "access to db denied" {
		t.Errorf("refused client was told %v", err)
	}
}

func TestForwardPostgresOverTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"pg"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			served <- err
			return
		}
		defer conn.Close()
		ask := make([]byte, 8)
		if _, err := io.ReadFull(conn, ask); err != nil || binary.BigEndian.Uint32(ask[4:]) != pgSSL {
			served <- fmt.Errorf("asked %x, %w", ask, err)
			return
		}
		_, _ = conn.Write([]byte("S"))
		tc := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
		served <- NewPostgres().Serve(t.Context(), tc, testSession())
	}()
	addr := serve(t, ForwardPostgres{Addr: ln.Addr().String(), TLS: &tls.Config{RootCAs: roots, ServerName: "pg"}}, testSession())
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://bob@%s/app?sslmode=disable", addr))
	if err != nil {
		t.Fatal(err)
	}
	var one int
	if err := conn.QueryRow(t.Context(), "select 1").Scan(&one); err != nil || one != 1 {
		t.Errorf("select 1 = %d, %v", one, err)
	}
	_ = conn.Close(t.Context())
	_ = ln.Close()
	if err := <-served; err != nil {
		t.Errorf("the TLS server: %v", err)
	}
}
