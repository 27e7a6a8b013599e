package osservice

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/internal/testwait"
)

// insideVar is set for the test binary that runs within the namespaces.
const insideVar = "BERTH_TEST_INSIDE"

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) {
	if os.Getenv(insideVar) != "" { // as root in namespaces of its own: see TestUserManager
		os.Exit(m.Run())
	}
	testwait.NoLeaks(m)
}

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// plain is the service as a package installs it, awkward one with every
// character that some format treats in a way of its own.
var (
	plain = Config{
		Name: "berth", Description: "berth, Teleport tunnels on local addresses that never change",
		Program: PackagedProgram, Args: []string{"agent", "run"}, LogDir: "/home/alice/.local/state/berth",
	}
	awkward = Config{
		Name: "berth-0a1b2c3d", Description: "50% {{Path}}\nnext",
		Program: `/home/al ice/100%/$x/"q"\b/{{y}}/berth`, Args: []string{"agent", "run", "--quiet", ""},
		Env:    []EnvVar{{"BERTH_HOME", `/home/al ice/a<b>&'c'`}, {"PATH", "/opt/100%/bin:/usr/bin;x#y"}},
		LogDir: "/Users/al ice/Library/Logs/berth",
	}
)
