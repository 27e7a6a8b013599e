package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"berth/internal/demo"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// TestMain lets the test binary pass for berth-demo, and for the demo's tsh.
func TestMain(m *testing.M) {
	demo.ServeAsTSH()
	testscript.Main(m, map[string]func(){"berth-demo": main})
}

// The scripts know one command beside testscript's own:
//
//	wait-for FILE PATTERN    wait until a file has a line that matches
func TestScripts(t *testing.T) {
	testneeds.Unix(t, "the scripts stop the demo with SIGINT, which Windows does not have")
	testneeds.Time(t, "the script takes the tour three times")
	berth := buildBerth(t)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"wait-for": waitFor},
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			tmp := filepath.Join(env.WorkDir, "tmp")
			env.Setenv("PATH", filepath.Dir(berth)+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TMPDIR", tmp)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else every berth under the race detector sleeps at its end
			return os.Mkdir(tmp, 0o700)
		},
	})
}

// buildBerth builds berth as this test was built, so that the build cache has
// its packages already.
func buildBerth(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "berth")
	args := []string{"build", "-ldflags=-w", "-o", path}
	if testneeds.Race {
		args = append(args, "-race")
	}
	out, err := exec.CommandContext(t.Context(), "go", append(args, "berth/cmd/berth")...).CombinedOutput()
	if err != nil {
		t.Fatalf("build berth: %v\n%s", err, out)
	}
	return path
}

func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: wait-for FILE PATTERN")
	}
	re := regexp.MustCompile("(?m)" + args[1])
	var raw []byte
	if !testwait.Until(func() bool {
		var err error
		raw, err = os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && re.Match(raw)
	}) {
		ts.Fatalf("%s has no line that matches %s:\n%s", args[0], args[1], raw)
	}
}
