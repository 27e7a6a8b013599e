package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"berth/agent/state"
	"berth/internal/paths"
	"berth/internal/simcluster"
	"berth/internal/testneeds"
)

// A disk that is full or read-only takes what the agent remembers, never the
// ports. Once there is room again it says so no longer, and the state is there.
func TestNothingCanBeSaved(t *testing.T) {
	testneeds.Root(t, "it mounts a tiny disk")
	for name, spoil := range map[string]func(t *testing.T, disk string) (mend func()){
		"full":      fill,
		"read_only": makeReadOnly,
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, simcluster.Config{})
			e.Login()
			item, port := e.pgTunnel("pg")
			e.config(item)
			config, err := os.ReadFile(e.Paths.Config)
			if err != nil {
				t.Fatal(err)
			}
			disk := t.TempDir()
			mount(t, "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk)
			t.Cleanup(func() {
				if err := exec.Command("umount", disk).Run(); err != nil {
					t.Error(err)
				}
			})
			if err := os.WriteFile(filepath.Join(disk, "config.yaml"), config, 0o600); err != nil {
				t.Fatal(err)
			}
			mend := spoil(t, disk)
			if e.Paths, err = paths.Resolve(func(key string) string {
				return map[string]string{paths.HomeVar: disk, "HOME": t.TempDir(), "TMPDIR": t.TempDir()}[key]
			}); err != nil {
				t.Fatal(err)
			}
			agent := e.startAgent()
			e.AwaitState("pg", state.TunnelReady)
			if got := e.serial(e.mustPG(port)); got == "" {
				t.Error("the tunnel does not serve")
			}
			s := e.Await("the problem", func(s state.Snapshot) bool { return len(s.Problems) > 0 })
			if p := s.Problems[0]; p.Code != state.CodeStateUnwritable || !strings.Contains(p.Action, e.Paths.StateDir) {
				t.Errorf("problems = %+v", s.Problems)
			}
			if err := agent.memory.SetStopped("other", true); err == nil {
				t.Error("what cannot be saved passes for saved")
			}
			mend()
			if err := agent.memory.SetStopped("another", true); err != nil {
				t.Error(err)
			}
			agent.touch()
			e.Await("the problem to be over", func(s state.Snapshot) bool { return len(s.Problems) == 0 })
			raw, err := os.ReadFile(e.Paths.StateFile)
			if err != nil || !strings.Contains(string(raw), `"other"`) {
				t.Errorf("the state is %s, %v", raw, err)
			}
		})
	}
}

func fill(t *testing.T, disk string) (mend func()) {
	file := filepath.Join(disk, "large")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("a megabyte went onto 64 KB")
	}
	return func() {
		if err := os.Remove(file); err != nil {
			t.Error(err)
		}
	}
}

func makeReadOnly(t *testing.T, disk string) (mend func()) {
	mount(t, "-o", "remount,ro", disk)
	return func() { mount(t, "-o", "remount,rw", disk) }
}

func mount(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "mount", args...).CombinedOutput(); err != nil {
		testneeds.Here(t, "to mount a disk", fmt.Errorf("%w: %s", err, out))
	}
}
