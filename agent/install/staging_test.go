package install

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestStaging(t *testing.T) {
	f := newFixture(t, layouts["v17"]).withOld(layouts["v17"])
	f.write("config/config.yaml", "aliases: {}")
	before := list(t, f.home.Dir)
	s, err := NewStaging(t.Context(), f.home.Dir)
	f.check(err)
	if got, err := os.ReadFile(filepath.Join(s.Dir, "config", "config.yaml")); string(got) != "aliases: {}" {
		t.Errorf("tsh's settings there = %q, %v", got, err)
	}
	if info, err := os.Stat(s.Dir); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
		t.Errorf("mode = %v, %v; want 0700", info.Mode(), err)
	}
	f.check(Recover(t.Context(), f.home.Dir, nil))
	if _, err := os.Stat(s.Dir); err != nil {
		t.Errorf("Recover removed a staged home in use: %v", err)
	}
	if role := f.role(); role != "old" {
		t.Errorf("role = %q while another login is staged, want %q", role, "old")
	}
	f.check(s.Close())
	f.check(s.Close())
	if after := list(t, f.home.Dir); len(after) != len(before) {
		t.Errorf("Close left %v, want %v", after, before)
	}
}

// A staged home whose maker was killed goes at the next Recover.
func TestStaleStaging(t *testing.T) {
	f := newFixture(t, layouts["v17"]).withOld(layouts["v17"])
	s, err := NewStaging(t.Context(), f.home.Dir)
	f.check(err)
	f.check(os.WriteFile(filepath.Join(s.Dir, "secret"), []byte("key"), 0o600))
	f.check(s.alive.Close()) // as the system does for a dead process
	f.check(Recover(t.Context(), f.home.Dir, nil))
	f.tidy()
}

func TestStagingInAnAbsentHome(t *testing.T) {
	f := newFixture(t, layouts["v17"])
	s, err := NewStaging(t.Context(), f.home.Dir)
	f.check(err)
	f.check(s.Close())
	if _, err := os.Stat(f.home.Dir); !os.IsNotExist(err) {
		t.Errorf("stat of the home = %v, want it gone again", err)
	}
	s, err = NewStaging(t.Context(), f.home.Dir)
	f.check(err)
	cfg := f.config()
	cfg.User, cfg.ProxyHost = "", ""
	f.check(Login(t.Context(), cfg))
	f.check(s.Close())
	f.mustHold("new")
	f.tidy()
}
