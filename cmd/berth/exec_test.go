package main

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"berth/agent/state"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

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
			`t is stopped`, `berth up t`},
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
	case <-time.After(testwait.Patience):
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
