package tunnel

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/config"
	"berth/agent/sessions"
	"berth/certwatch"
	"berth/internal/simcluster"
	"berth/internal/testwait"
)

// Where berth cannot use the session's key, tsh assumes in the private home.
func TestElevationByTSH(t *testing.T) {
	sim, err := simcluster.Start(simcluster.Config{
		Users: []simcluster.User{{Name: "alice"}},
		Roles: []simcluster.Role{{Name: "access", Request: simcluster.RequestRules{Roles: []string{"dba"}}}, {Name: "dba"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	}()
	dir := t.TempDir()
	home, caFile, tshPath := filepath.Join(dir, "tsh-home"), filepath.Join(dir, "ca.pem"), filepath.Join(dir, "tsh")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{sim.WriteWebCA(caFile), sim.Login(home, "alice"), os.Symlink(exe, tshPath)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("BERTH_FAKE_TSH_KEY", "ecdsa")
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	id := sim.PutAccessRequest(simcluster.AccessRequest{
		User: "alice", Roles: []string{"dba"}, State: types.RequestState_APPROVED, Expires: time.Now().Add(13 * time.Hour),
	})
	roles := func(home string) (roles []string) {
		// A home is read once it has been still for a moment.
		testwait.Eventually(t, "a session in "+home, func() bool {
			list, err := certwatch.Load(home)
			if err != nil || len(list) != 1 || list[0].Session == nil {
				return false
			}
			roles = slices.Sorted(slices.Values(list[0].Session.Identity.Roles))
			return true
		})
		return roles
	}
	roles(home)
	list, err := certwatch.Load(home)
	if err != nil {
		t.Fatal(err)
	}
	session := sessions.Session{Profile: list[0]} // without a Cluster: the key is in hardware
	r := &resolver{launcher: &launcher{tshPath: func() string { return tshPath }}, log: slog.New(slog.DiscardHandler)}
	trust := config.ProxyTrust{CAFile: caFile}
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
	if got := roles(home); !slices.Equal(got, []string{"access"}) {
		t.Errorf("the home has the roles %q", got)
	}
	if err := sim.ResolveAccessRequest(id, types.RequestState_DENIED, "no"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.elevate(t.Context(), session, trust, []string{id}); err == nil || !strings.Contains(err.Error(), "DENIED") {
		t.Errorf("elevated by a denied request: %v", err)
	}
	if err := filepath.WalkDir(home, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), "staging-") {
			t.Errorf("a private home is left after a refusal: %s", path)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
