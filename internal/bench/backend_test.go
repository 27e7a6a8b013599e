package main

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"berth/internal/simcluster/simdb"
	"berth/internal/testwait"
)

// serveBulk returns a way to a backend that is served without a cluster.
func serveBulk(t *testing.T, b *bulk) way {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = b.Serve(t.Context(), conn, simdb.Session{Serial: "4711"})
				_ = conn.Close()
			}()
		}
	}()
	return through(ln.Addr().String())
}

func open(t *testing.T, w way, cmd ...byte) net.Conn {
	t.Helper()
	conn, err := ask(t.Context(), w, cmd...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(testwait.Patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestBackendEchoes(t *testing.T) {
	w := serveBulk(t, &bulk{})
	if err := visit(t.Context(), w); err != nil {
		t.Error(err)
	}
	conn, serial, err := servedBy(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if serial != "4711" {
		t.Errorf("served by the cert %q, want 4711", serial)
	}
	if err := roundTrip(conn); err != nil {
		t.Errorf("echo after the serial: %v", err)
	}
}

func TestBackendHangsUpOnNonsense(t *testing.T) {
	conn := open(t, serveBulk(t, &bulk{}), '?')
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read = %v, want EOF", err)
	}
}

func TestBackendSends(t *testing.T) {
	conn := open(t, serveBulk(t, &bulk{}), cmdDown)
	if n, err := io.CopyN(io.Discard, conn, 10<<20); err != nil {
		t.Errorf("got %d bytes: %v", n, err)
	}
}

func TestBackendTakesAndCounts(t *testing.T) {
	b := &bulk{}
	conn := open(t, serveBulk(t, b), cmdUp)
	const n = 64 * chunk
	if err := send(conn, n); err != nil {
		t.Fatal(err)
	}
	testwait.Eventually(t, "all bytes", func() bool { return b.received.Load() == n })
}

// TestBackendPaces checks the rate from above only: a busy machine may be slow.
func TestBackendPaces(t *testing.T) {
	const rate = 10 // MB/s
	w, began := serveBulk(t, &bulk{}), time.Now()
	conn := open(t, w, cmdPaced, 0, rate)
	if _, err := io.CopyN(io.Discard, conn, 2e6); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 190*time.Millisecond {
		t.Errorf("2 MB came in %v, at %d MB/s it takes 200 ms", took, rate)
	}
}

func TestOpenMany(t *testing.T) {
	w := serveBulk(t, &bulk{})
	conns, err := openMany(t.Context(), w, 100)
	for _, conn := range conns {
		if err := roundTrip(conn); err != nil {
			t.Error(err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(conns) != 100 || err != nil {
		t.Errorf("openMany = %d connections, %v", len(conns), err)
	}
	refused := errors.New("refused")
	conns, err = openMany(t.Context(), way{"none", func(context.Context) (net.Conn, error) { return nil, refused }}, 100)
	if len(conns) != 0 || !errors.Is(err, refused) {
		t.Errorf("openMany where nothing listens = %d connections, %v", len(conns), err)
	}
}
