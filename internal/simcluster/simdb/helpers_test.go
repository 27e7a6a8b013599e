package simdb

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/testneeds"
	"berth/internal/testwait"
)

func TestMain(m *testing.M) {
	testwait.NoLeaks(m)
}

// testSession is what the client cert of a test says.
func testSession() Session {
	return Session{
		User: "alice", Cluster: "sim.test", Service: "db", Roles: []string{"access", "dba"},
		ActiveRequests: []string{"r1"}, Serial: "4711", NotAfter: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC),
		ServerVersion: "8.0.18",
	}
}

// serve serves a backend on a loopback port until the test ends.
func serve(t *testing.T, b Backend, s Session) *net.TCPAddr {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				if err := b.Serve(ctx, conn, s); err != nil && ctx.Err() == nil {
					t.Logf("%T: %v", b, err)
				}
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = ln.Close()
		wg.Wait()
	})
	return ln.Addr().(*net.TCPAddr)
}

// run runs a real client and returns what it printed.
func run(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testneeds.Program(t, name), args...)
	cmd.Env = append(os.Environ(), "PGCONNECT_TIMEOUT=10", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// refuse is a Session that is allowed nothing.
func refuse() Session {
	s := testSession()
	s.Authorize = func(string, string) error { return errors.New("access to db denied") }
	return s
}
