package tunnel

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/install"
	"berth/agent/sessions"
	"berth/agent/tsh"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testneeds"
)

// Where berth cannot use the session's key, tsh assumes in the private home.
func TestElevationByTSH(t *testing.T) {
	w := simworld.New(t, simcluster.Config{
		Users: []simcluster.User{{Name: "alice"}},
		Roles: []simcluster.Role{{Name: "access", Request: simcluster.RequestRules{Roles: []string{"dba"}}}, {Name: "dba"}},
	})
	w.Login()
	tshPath := filepath.Join(w.Dir, "tsh")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(exe, tshPath); err != nil {
		t.Fatal(err)
	}
	t.Setenv("BERTH_FAKE_TSH_KEY", "ecdsa")
	t.Setenv("GORACE", testneeds.RaceOptions)
	id := w.Sim.PutAccessRequest(simcluster.AccessRequest{
		User: "alice", Roles: []string{"dba"}, State: types.RequestState_APPROVED, Expires: time.Now().Add(13 * time.Hour),
	})
	roles := func(home string) []string {
		return slices.Sorted(slices.Values(simworld.Profile(t, home).Session.Identity.Roles))
	}
	session := sessions.Session{Profile: simworld.Profile(t, w.Home)} // without a Cluster: the key is in hardware
	var assumable error
	r := &resolver{
		launcher: &launcher{tshPath: func() string { return tshPath }}, log: slog.New(slog.DiscardHandler),
		assumable: func(context.Context, sessions.Session, string) error { return assumable },
	}
	trust := config.ProxyTrust{CAFile: w.CAFile()}
	up, err := r.elevate(t.Context(), session, trust, []string{id})
	if err != nil {
		t.Fatal(err)
	}
	if got := roles(up.stage.Dir); !slices.Equal(got, []string{"access", "dba"}) {
		t.Errorf("the private home has the roles %q", got)
	}
	if err := up.stage.Close(); err != nil {
		t.Error(err)
	}
	if got := roles(w.Home); !slices.Equal(got, []string{"access"}) {
		t.Errorf("the home has the roles %q", got)
	}
	if err := w.Sim.ResolveAccessRequest(id, types.RequestState_DENIED, "no"); err != nil {
		t.Fatal(err)
	}
	// That it is over says the list, not what tsh prints.
	for _, assumable = range []error{nil, errCluster, &cluster.UnknownRequestError{ID: id}} {
		_, known := errors.AsType[*cluster.UnknownRequestError](assumable)
		if _, err := r.elevate(t.Context(), session, trust, []string{id}); err == nil || !strings.Contains(err.Error(), "DENIED") || isOver(err) != known {
			t.Errorf("elevated by a denied request: %v; it is over: %v", err, isOver(err))
		}
	}
	if err := filepath.WalkDir(w.Home, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), "staging-") {
			t.Errorf("a private home is left after a refusal: %s", path)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestGateLeavesNoPrivateHome: neither of a child that runs with it, nor of one whose
// next process, without the roles, is yet to come.
func TestGateLeavesNoPrivateHome(t *testing.T) {
	for name, next := range map[string][]*elevation{"in_use": nil, "about_to_be_left": {nil}} {
		t.Run(name, func(t *testing.T) {
			stage, err := install.NewStaging(t.Context(), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			proc, err := tsh.NewTunnel(tsh.TunnelConfig{
				Path: "tsh", Proxy: "localhost:1", Target: tsh.Database{Name: "pg"}, Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			c := &child{proc: proc}
			c.homes.list = append([]*elevation{{stage: stage}}, next...)
			c.gate()
			if _, err := os.Stat(stage.Dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the private home is left: %v", err)
			}
		})
	}
}
