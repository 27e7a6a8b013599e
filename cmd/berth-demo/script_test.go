package main

import (
	"errors"
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
	bin := t.TempDir()
	build(t, filepath.Join(bin, "berth"), "berth/cmd/berth", testneeds.Race)
	// Under the race detector a program with the demo's MySQL takes 2.4 s of processor
	// time to start, for its regular expressions. The agent, which starts tsh often, then
	// gets the simulated one alone.
	quickTSH := filepath.Join(bin, "quick", "tsh")
	if testneeds.Race {
		build(t, quickTSH, "berth/internal/simcluster/cmd/tsh", false)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"wait-for": waitFor},
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			tmp := filepath.Join(env.WorkDir, "tmp")
			env.Setenv("QUICK_TSH", quickTSH)
			env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TMPDIR", tmp)
			env.Setenv("GORACE", testneeds.RaceOptions)
			return os.Mkdir(tmp, 0o700)
		},
		Condition: func(cond string) (bool, error) {
			if cond != "race" {
				return false, errors.New("no such condition: " + cond)
			}
			return testneeds.Race, nil
		},
	})
}

// build builds a program with one of the settings for which "make test" has its
// packages in the build cache.
func build(t *testing.T, path, pkg string, race bool) {
	t.Helper()
	cgo := "0"
	args := []string{"build", "-ldflags=-w", "-o", path}
	if race {
		cgo, args = "1", append(args, "-race")
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
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
