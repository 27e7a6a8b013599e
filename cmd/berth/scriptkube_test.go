package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"berth/internal/testwait"
)

// commandTime is after how long a command that goes on by itself is ended.
const commandTime = 2 * time.Second

// mayChange are the commands that each-command does not miss: merge says in its
// name what it changes.
var mayChange = []string{"berth help", "berth kube config merge"}

// cmdEachCommand runs every line of a file as a command, all of berth's among
// them, and checks after each that the folder is as it was before; with ! that one of them changes it.
func cmdEachCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] each-command FILE FOLDER")
	}
	a, _, _ := testApp()
	root := a.rootCommand()
	missing := make(map[string]bool)
	eachCommand(root, func(cmd *cobra.Command) {
		if cmd.Runnable() && !cmd.HasSubCommands() && !slices.Contains(mayChange, cmd.CommandPath()) {
			missing[cmd.CommandPath()] = true
		}
	})
	folder := ts.MkAbs(args[1])
	before := contents(ts, folder)
	limit := commandTime
	if neg { // what is to change the folder comes to its end
		limit = testwait.Patience
	}
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		words := strings.Fields(os.Expand(line, ts.Getenv))
		if len(words) == 0 {
			continue
		}
		if words[0] == "berth" {
			cmd, _, err := root.Find(words[1:])
			ts.Check(err)
			delete(missing, cmd.CommandPath())
		}
		runFor(ts, limit, words)
		switch diff := cmp.Diff(before, contents(ts, folder)); {
		case diff == "":
		case neg:
			return
		default:
			ts.Fatalf("%s changed %s (-before +after):\n%s", words, folder, diff)
		}
	}
	if neg {
		ts.Fatalf("%s is as it was", folder)
	}
	if len(missing) > 0 {
		ts.Fatalf("commands that %s leaves out: %q", args[0], slices.Sorted(maps.Keys(missing)))
	}
}

// runFor runs a command to its end, or for a time. How it ends is its own
// affair, but it must have understood its arguments.
func runFor(ts *testscript.TestScript, d time.Duration, words []string) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	cmd := exec.CommandContext(ctx, programOf(ts, words[0]), words[1:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"BERTH_HOME", "TELEPORT_HOME", "HOME", "KUBECONFIG", "TMPDIR", "PATH", "PROXY", "GORACE", "GOCOVERDIR", "LC_ALL"} {
		if value := ts.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Env = append(cmd.Env, "EDITOR=true")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = testwait.Patience
	out, err := cmd.CombinedOutput()
	ts.Logf("%s\n%s", words, out)
	if words[0] == "berth" {
		if hint := circular(words[1:], string(out)); hint != "" {
			ts.Fatalf("%s answers with itself: %s", words, hint)
		}
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
	case errors.As(err, &exit) && exit.ExitCode() != exitUsage:
	default:
		ts.Check(err)
	}
}

// programOf is the path of a program as the script itself finds it.
func programOf(ts *testscript.TestScript, name string) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	ts.Fatalf("no program %s on the script's PATH", name)
	return ""
}

// contents is what the files below a folder hold, and when each was written.
func contents(ts *testscript.TestScript, folder string) map[string]string {
	all := make(map[string]string)
	ts.Check(filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		raw, err := os.ReadFile(path)
		all[path] = fmt.Sprintf("%s %s\n%s", info.Mode(), info.ModTime(), raw)
		return err
	}))
	return all
}
