package main

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"berth/internal/atomicfile"
)

// completionFile is where a shell looks for completions that a user installed;
// empty for shells that have no such place.
func (a *app) completionFile(shell string) string {
	home := a.env("HOME")
	if home == "" || runtime.GOOS == "windows" {
		return ""
	}
	base := func(variable, fallback string) string {
		if dir := a.env(variable); filepath.IsAbs(dir) {
			return dir
		}
		return filepath.Join(home, fallback)
	}
	switch shell {
	case "bash":
		return filepath.Join(base("XDG_DATA_HOME", ".local/share"), "bash-completion", "completions", "berth")
	case "fish":
		return filepath.Join(base("XDG_CONFIG_HOME", ".config"), "fish", "completions", "berth.fish")
	}
	return ""
}

// packagedCompletion is the shell's script that a package has brought, where the shell
// looks for those of all users; empty without one.
func (a *app) packagedCompletion(shell string) string {
	name := map[string]string{"bash": "bash-completion/completions/berth", "fish": "fish/vendor_completions.d/berth.fish"}[shell]
	for _, dir := range filepath.SplitList(cmp.Or(a.env("XDG_DATA_DIRS"), "/usr/local/share:/usr/share")) {
		if file := filepath.Join(dir, name); filepath.IsAbs(dir) && there(file) {
			return file
		}
	}
	return ""
}

// completionScript is what "berth completion" prints for bash and fish.
func (a *app) completionScript(shell string) ([]byte, error) {
	var b bytes.Buffer
	root := a.rootCommand()
	var err error
	if shell == "fish" {
		err = root.GenFishCompletion(&b, true)
	} else {
		err = bashCompletion(root, &b)
	}
	return b.Bytes(), err
}

// installCompletion writes the script for the user's shell, unless a package has
// brought it.
func (a *app) installCompletion() error {
	shell := filepath.Base(a.env("SHELL"))
	file := a.completionFile(shell)
	if file == "" {
		return a.say("Completion: see berth completion --help.")
	}
	// Without it nothing reads the script, whoever brought it.
	lacksPackage := shell == "bash" && !slices.ContainsFunc(bashCompletionHomes, there)
	if packaged := a.packagedCompletion(shell); packaged != "" && !lacksPackage {
		return a.say("Completion came with the package.")
	} else if packaged != "" {
		return a.sayToSource(packaged)
	}
	script, err := a.completionScript(shell)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := atomicfile.Write(file, script, 0o644); err != nil {
		return err
	}
	if lacksPackage {
		return a.sayToSource(file)
	}
	return a.say("Completion for %s: %s", shell, file)
}

func (a *app) sayToSource(file string) error {
	return a.say("Completion for bash: add this to ~/.bashrc, since the package bash-completion is not installed:\n  source %s", file)
}

// bashCompletionHomes is where the package bash-completion is, which reads the
// scripts of a user at their first use.
var bashCompletionHomes = []string{
	"/usr/share/bash-completion/bash_completion", "/usr/local/share/bash-completion/bash_completion",
	"/usr/local/etc/profile.d/bash_completion.sh", "/opt/homebrew/etc/profile.d/bash_completion.sh",
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// removeCompletion removes scripts that installCompletion wrote: those that are
// of cobra's making and for berth.
func (a *app) removeCompletion() error {
	var errs []error
	for _, shell := range []string{"bash", "fish"} {
		file := a.completionFile(shell)
		if file == "" {
			continue
		}
		raw, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		head, _, _ := bytes.Cut(raw, []byte("\n"))
		if err == nil && bytes.HasPrefix(head, []byte("# ")) && bytes.Contains(head, []byte("completion")) && bytes.Contains(head, []byte("berth")) {
			err = os.Remove(file)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
