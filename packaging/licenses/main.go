// Command licenses writes the licences of everything that berth links, on any
// system, and of what its pages for a browser are built with: each asks that it
// goes along. With -check it writes nothing and fails when the file is another.
//
//	go run ./packaging/licenses [-check] FILE
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	check := flag.Bool("check", false, "compare instead of writing")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2) //nolint:forbidigo // this is main
	}
	if err := run(context.Background(), flag.Arg(0), *check); err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(ctx context.Context, file string, check bool) error {
	text, err := gather(ctx)
	if err != nil {
		return err
	}
	if !check {
		return os.WriteFile(file, text, 0o644) //nolint:gosec // G306: it is for everyone
	}
	if there, err := os.ReadFile(file); err != nil || !bytes.Equal(there, text) {
		return errors.Join(fmt.Errorf(`%s is out of date: run "make deps"`, file), err)
	}
	return nil
}

// gather returns the licences, each text once, with the names of those that it is
// for.
func gather(ctx context.Context) ([]byte, error) {
	dirs, err := modules(ctx)
	if err != nil {
		return nil, err
	}
	names := make(map[string][]string) // by text
	for name, dir := range dirs {
		text, err := licences(dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		names[text] = append(names[text], name)
	}
	type entry struct{ names, text string }
	var entries []entry
	for text, of := range names {
		slices.Sort(of)
		entries = append(entries, entry{strings.Join(of, "\n"), text})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.names, b.names) })
	var b bytes.Buffer
	b.WriteString("berth is built with the following, each under the licence that follows its name.\n")
	for _, e := range entries {
		fmt.Fprintf(&b, "\n%s\n%s\n%s", strings.Repeat("=", 80), e.names, e.text)
	}
	// "make web" collects those of what is in the window and the player.
	web, err := os.ReadFile(filepath.Join("internal", "web", "dist", "LICENSES"))
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(&b, "\n%s\n%s", strings.Repeat("=", 80), web)
	return b.Bytes(), nil
}

// modules returns the folder of every module that berth links on one of the
// systems it is built for, and of the standard library, by name and version.
func modules(ctx context.Context) (map[string]string, error) {
	goroot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	dirs := map[string]string{"The Go standard library": strings.TrimSpace(string(goroot))}
	for _, system := range []string{"linux", "windows", "darwin"} {
		cmd := exec.CommandContext(ctx, "go", "list", "-deps",
			"-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}{{end}}", "./cmd/berth")
		cmd.Env, cmd.Stderr = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0"), os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go list for %s: %w", system, err)
		}
		for line := range strings.Lines(string(out)) {
			// Packages of berth and of the standard library give an empty line.
			if name, dir, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
				dirs[name] = dir
			}
		}
	}
	return dirs, nil
}

// licences returns the licence files of a module. A module that is a part of a
// repository has that one's: Go packs it along.
func licences(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		is := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
		if !e.Type().IsRegular() || !slices.ContainsFunc([]string{"LICENSE", "LICENCE", "COPYING", "NOTICE"}, is) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "\n--- %s\n\n%s\n", e.Name(), bytes.TrimSpace(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))))
	}
	if b.Len() == 0 {
		return "", fmt.Errorf("no licence in %s", dir)
	}
	return b.String(), nil
}
