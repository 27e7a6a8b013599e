package tunnel

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/state"
	"berth/agent/tsh"
)

// TestFailingTSHIsNotConnecting: while a tsh that failed is started again, the tunnel says
// so still. One that a person has restarted connects.
func TestFailingTSHIsNotConnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &child{}
		var said []state.TunnelState
		proc, err := tsh.NewTunnel(tsh.TunnelConfig{
			Path: filepath.Join(t.TempDir(), "tsh"), Proxy: "localhost:1", Target: tsh.Database{Name: "pg"}, Logger: slog.New(slog.DiscardHandler),
			OnChange: func() {
				s, _ := c.state(state.TunnelSpec{Name: "pg"}, "")
				said = append(said, s)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		c.proc = proc
		proc.Gate(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := proc.Run(ctx); err != nil {
			t.Fatal(err)
		}
		said = said[:len(said)-1] // of its end
		if len(said) < 6 || said[0] != state.TunnelConnecting {
			t.Fatalf("a tsh that is not there: %v", said)
		}
		for _, s := range said[1:] {
			if s != state.TunnelError {
				t.Errorf("it was connecting, after it had failed: %v", said)
				break
			}
		}
	})
}

// TestReplacedTSHConnects: a tsh that served, and is replaced on purpose, has not failed,
// whatever was before.
func TestReplacedTSHConnects(t *testing.T) {
	st := tsh.Status{State: tsh.StateStarting, Failures: 1}
	if is, problem := new(child).stateOf(st, state.TunnelSpec{Name: "pg"}, ""); is != state.TunnelConnecting || problem != nil {
		t.Errorf("it is %v, %+v", is, problem)
	}
	st.LastError = errors.New("exit status 1")
	if is, problem := new(child).stateOf(st, state.TunnelSpec{Name: "pg"}, ""); is != state.TunnelError || problem == nil {
		t.Errorf("with a failure it is %v, %+v", is, problem)
	}
}
