package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/agent/state"
	"berth/internal/testneeds"
	"berth/proxies/db"
)

func TestClientArgs(t *testing.T) {
	ep := db.Endpoint{Host: "127.0.0.1", Port: 15432, DBUser: "alice", DBName: "1", TunnelName: "t"}
	for _, test := range []struct {
		name, protocol string
		argv, want     []string
	}{
		{"usual_client", "postgres", nil, []string{"psql", "postgres://alice@127.0.0.1:15432/1?sslmode=disable"}},
		{"named_client_reads_environment", "postgres", []string{"psql", "-l"}, []string{"psql", "-l"}},
		{"redis_cli_gets_arguments", "redis", []string{"redis-cli", "PING"},
			[]string{"redis-cli", "-h", "127.0.0.1", "-p", "15432", "-n", "1", "PING"}},
		{"by_path_too", "redis", []string{"/opt/bin/redis-cli"}, []string{"/opt/bin/redis-cli", "-h", "127.0.0.1", "-p", "15432", "-n", "1"}},
		{"mongosh_gets_the_url", "mongodb", []string{"mongosh", "--quiet"},
			[]string{"mongosh", "mongodb://127.0.0.1:15432/1?directConnection=true", "--quiet"}},
		{"other_program", "redis", []string{"env"}, []string{"env"}},
		{"client_of_another_protocol", "postgres", []string{"redis-cli"}, []string{"redis-cli"}},
		{"no_usual_client", "spanner", []string{"gcloud"}, []string{"gcloud"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			proto, ok := db.Lookup(test.protocol)
			if !ok {
				t.Fatalf("no protocol %s", test.protocol)
			}
			got, err := clientArgs(proto, ep, test.argv)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("clientArgs (-want +got):\n%s", diff)
			}
		})
	}
	proto, _ := db.Lookup("spanner")
	if _, err := clientArgs(proto, ep, nil); exitCode(err) != exitUsage || !strings.Contains(hintOf(err), "berth exec t -- COMMAND") {
		t.Errorf("without a usual client: %v (hint %q), want a usage error that asks for one", err, hintOf(err))
	}
}

func TestWithout(t *testing.T) {
	got := without([]string{"A=1", "B=2", "AB=3", "C"}, []string{"A", "C", "D"})
	if diff := cmp.Diff([]string{"B=2", "AB=3"}, got); diff != "" {
		t.Errorf("without (-want +got):\n%s", diff)
	}
}

func TestUnknownProtocol(t *testing.T) {
	problem := &state.Problem{Text: "No session.", Action: "tsh login"}
	for _, test := range []struct {
		name       string
		tunnel     state.Tunnel
		code       int
		text, hint string
	}{
		{"new_one", state.Tunnel{TunnelSpec: state.TunnelSpec{Name: "t"}, Protocol: "graphql", Address: "127.0.0.1:1"}, exitFailed,
			`berth does not know the protocol "graphql" of tunnel "t"`, "connect your client to 127.0.0.1:1"},
		{"stopped", state.Tunnel{TunnelSpec: state.TunnelSpec{Name: "t"}, State: state.TunnelStopped}, exitFailed,
			`tunnel "t" is stopped`, `start it with "berth tunnel start t"`},
		{"login", state.Tunnel{TunnelSpec: state.TunnelSpec{Name: "t"}, State: state.TunnelWaitingForLogin, Problem: problem}, exitLoginNeeded,
			`login needed: what tunnel "t" leads to is not known yet: No session`, "tsh login"},
		{"problem", state.Tunnel{TunnelSpec: state.TunnelSpec{Name: "t"}, State: state.TunnelError, Problem: problem}, exitFailed,
			`what tunnel "t" leads to is not known yet: No session`, "tsh login"},
		{"connecting", state.Tunnel{TunnelSpec: state.TunnelSpec{Name: "t"}, State: state.TunnelConnecting}, exitFailed,
			`what tunnel "t" leads to is not known yet`, `wait with "berth status --wait --timeout 30s t"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := endpointOf(test.tunnel)
			if err == nil || err.Error() != test.text || hintOf(err) != test.hint || exitCode(err) != test.code {
				t.Errorf("got %v (hint %q, code %d), want %s (%q, %d)", err, hintOf(err), exitCode(err), test.text, test.hint, test.code)
			}
		})
	}
}

func TestNotifyReady(t *testing.T) {
	if runtime.GOOS == "windows" {
		notifyReady("anything") // must do nothing
		return
	}
	path := filepath.Join(t.TempDir(), "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	notifyReady("")
	notifyReady(filepath.Join(t.TempDir(), "nobody"))
	notifyReady(path)
	if err := l.SetReadDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := l.Read(buf)
	if got := string(buf[:n]); err != nil || got != "READY=1\nSTATUS=Ports bound" {
		t.Errorf("the manager reads %q, %v", got, err)
	}
}

func TestSignalContext(t *testing.T) {
	testneeds.Unix(t, "a process on Windows cannot signal itself")
	ctx, stop := signalContext(t.Context())
	defer stop()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(wait):
		t.Fatal("the signal did not end the context")
	}
	var sig signalError
	if !errors.As(context.Cause(ctx), &sig) || sig.Signal != syscall.SIGTERM {
		t.Errorf("cause is %v, want SIGTERM", context.Cause(ctx))
	}
	if errors.Is(ignoreStop(ctx, context.Canceled), context.Canceled) {
		t.Error("the end of a watch is an error")
	}
}
