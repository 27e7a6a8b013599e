package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/internal/simcluster/simdb"
	"berth/internal/testneeds"
)

// through returns a dialer to a backend as a database service runs it.
func through(t *testing.T, b simdb.Backend) simdb.Dialer {
	t.Helper()
	s := simdb.Session{User: "alice", Serial: "4711", Roles: []string{"access", "dba"}, NotAfter: time.Unix(0, 0)}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return func(context.Context) (net.Conn, error) {
		client, server := net.Pipe()
		wg.Go(func() {
			defer server.Close()
			_ = b.Serve(ctx, server, s) // the client sees what is wrong
		})
		return client, nil
	}
}

// startReal starts a server of this machine in a folder of the test's.
func startReal(t *testing.T, protocol string) (kind, *realServer) {
	t.Helper()
	testneeds.Unix(t, "no real server is run on Windows")
	dir := shortTemp(t)
	kinds := serverKinds()
	k := kinds[slices.IndexFunc(kinds, func(k kind) bool { return k.protocol == protocol })]
	s, err := k.real(t.Context(), dir)
	switch {
	case !errors.Is(err, errNotInstalled):
	case protocol == "mysql": // which no other test needs
		testneeds.Skip(t, "mariadbd", "install "+k.install)
	default:
		testneeds.Tool(t, k.install, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.program.close(), os.RemoveAll(dir)); err != nil {
			t.Errorf("end of %s: %v", s.title, err)
		}
	})
	if name, version, ok := strings.Cut(s.title, " "); !ok || name == "" || !strings.Contains(version, ".") {
		t.Errorf("title %q, want a name and a version", s.title)
	}
	return k, s
}

func TestRealPostgres(t *testing.T) {
	k, s := startReal(t, "postgres")
	conn, err := connectPostgresAt(t.Context(), through(t, k.forward(s.dial)), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var who, serial, roles string
	var sum, orders int
	for query, into := range map[string]any{
		"select current_user": &who,
		"select value from session_identity where name = 'serial'": &serial,
		"select value from session_identity where name = 'roles'":  &roles,
		"select count(*)::int from orders":                         &orders,
	} {
		if err := conn.QueryRow(t.Context(), query).Scan(into); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
	if err := conn.QueryRow(t.Context(), "select sum(i)::int from generate_series(1, $1::int) i", 1000).Scan(&sum); err != nil || sum != 500500 {
		t.Errorf("sum = %d, %v", sum, err)
	}
	if who != user || serial != "4711" || roles != "access,dba" || orders != 7 {
		t.Errorf("user %q, serial %q, roles %q, %d orders", who, serial, roles, orders)
	}
}

func TestRealMySQL(t *testing.T) {
	k, s := startReal(t, "mysql")
	pool, err := openMySQL(user, through(t, k.forward(s.dial)))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var who string
	var orders int
	err = pool.QueryRowContext(t.Context(), "select current_user(), (select count(*) from app.orders where id > ?)", 2).Scan(&who, &orders)
	if err != nil || who != user+"@localhost" || orders != 5 {
		t.Errorf("user %q, %d orders, %v", who, orders, err)
	}
}

func TestRealRedis(t *testing.T) {
	k, s := startReal(t, "redis")
	conn, err := through(t, k.forward(s.dial))(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET visits\r\n"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, len("$2\r\n41\r\n"))
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "$2\r\n41\r\n" {
		t.Errorf("GET gave %q, %v", answer, err)
	}
}

// A demo with real servers leaves nothing behind, whenever it is interrupted.
func TestInterruptedStartOfServers(t *testing.T) {
	for _, after := range []time.Duration{10 * time.Millisecond, 500 * time.Millisecond, 1500 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			ownTemp(t, shortTemp(t))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			defer time.AfterFunc(after, cancel).Stop() // as Ctrl-C, which no dial knows in advance
			if err := Run(ctx, Options{Out: io.Discard, Version: "test", SessionTTL: time.Minute}); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
}

// A server that does not start is said to, and a stand-in answers.
func TestServerThatDoesNotStart(t *testing.T) {
	testneeds.Unix(t, "no real server is run on Windows")
	bin := shortTemp(t)
	script := "#!/bin/sh\n[ \"$1\" = --version ] && exec echo 'Redis server v=9.9.9'\necho 'it \x1b[31mcannot' >&2; exit 1\n"
	if err := os.WriteFile(filepath.Join(bin, "redis-server"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	kinds := serverKinds()
	redis := kinds[slices.IndexFunc(kinds, func(k kind) bool { return k.protocol == "redis" })]
	d := &demo{Options: Options{Out: io.Discard}, dir: shortTemp(t), servers: make(map[string]*server)}
	if err := d.startEach(t.Context(), []kind{redis}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.clean(); err != nil {
			t.Errorf("clean: %v", err)
		}
	}()
	if s := d.servers["redis"]; s == nil || s.title != "miniredis" {
		t.Errorf("%v serves, want a stand-in", s)
	}
	want := "\nA stand-in answers for Redis, which does not start: redis-server ended: exit status 1: it cannot\n"
	if diff := cmp.Diff(want, d.advice()); diff != "" {
		t.Errorf("advice (-want +got):\n%s", diff)
	}
}

func TestAdvice(t *testing.T) {
	d := &demo{}
	if got := d.advice(); got != "" {
		t.Errorf("with nothing missing: %q", got)
	}
	d.missing = []string{"postgresql", "mariadb-server"}
	if got := d.advice(); !strings.Contains(got, "postgresql mariadb-server\n") {
		t.Errorf("with two missing: %q", got)
	}
}

// What a server says is kept at its end, and not without end.
func TestLastLine(t *testing.T) {
	var b lockedBuffer
	for i := range 2000 {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	fmt.Fprint(&b, "\n")
	if got := lastLine(b.bytes()); got != "line 1999" || len(b.bytes()) > keptOutput {
		t.Errorf("last line %q of %d bytes", got, len(b.bytes()))
	}
	if got := lastLine(nil); got != "" {
		t.Errorf("last line of nothing: %q", got)
	}
	if !bytes.HasSuffix(b.bytes(), []byte("1999\n\n")) {
		t.Error("the end was not kept")
	}
}
