package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// command runs a program; its output is shown only when it fails.
func (r *release) command(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.epoch.Unix()), "TZ=UTC", "LC_ALL=C.UTF-8")
	cmd.Env = append(cmd.Env, env...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, complaint.String(), out.String())
	}
	return out.String(), nil
}

// buildFlags are those of every build here, so that all have in common what they
// can. Of the place a program is built in nothing remains, and what debuggers
// need, which the linker would throw away, is not made in the first place: that
// is a seventh of the work.
var buildFlags = []string{"-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false"}

// goBuild runs "go COMMAND" with the flags of all builds, and more.
func (r *release) goBuild(ctx context.Context, dir string, env []string, command string, args ...string) error {
	_, err := r.command(ctx, dir, env, "go", slices.Concat([]string{command}, buildFlags, args)...)
	return err
}

// commonFiles writes man pages, completions, unit and icons, by a build of
// berth for this machine that knows how.
func (r *release) commonFiles(ctx context.Context) error {
	return r.goBuild(ctx, r.root, nil, "run", "-tags", "release", "./cmd/berth", "release-files", r.common())
}

// buildNFPM builds the tool that packs for the Linux distributions, once for all
// packages.
func (r *release) buildNFPM(ctx context.Context) error {
	return r.goBuild(ctx, filepath.Join(r.root, "packaging", "dist"), nil, "build", "-o", r.nfpm(), "github.com/goreleaser/nfpm/v2/cmd/nfpm")
}

func (r *release) nfpm() string { return filepath.Join(r.work, "nfpm") }

func (r *release) common(elem ...string) string {
	return filepath.Join(append([]string{r.work, "common"}, elem...)...)
}

// compile builds the program.
func (r *release) compile(ctx context.Context, t target) error {
	return r.goBuild(ctx, r.root, []string{"GOOS=" + t.os, "GOARCH=" + t.arch}, "build",
		"-ldflags", "-s -w -buildid= -X main.version="+r.version.semver(), "-o", r.program(t), "./cmd/berth")
}

// program is where the program of a system is.
func (r *release) program(t target) string {
	name := "berth"
	if t.os == "windows" {
		name = "berth.exe"
	}
	return filepath.Join(r.work, t.os+"-"+t.arch, name)
}

// writeNotices gathers the licences of every module in the program: each asks
// that it goes along.
func (r *release) writeNotices(ctx context.Context, t target) (string, error) {
	out, err := r.command(ctx, r.root, []string{"GOOS=" + t.os, "GOARCH=" + t.arch}, "go", "list", "-deps",
		"-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}{{end}}", "./cmd/berth")
	if err != nil {
		return "", err
	}
	goroot, err := r.command(ctx, r.root, nil, "go", "env", "GOROOT")
	if err != nil {
		return "", err
	}
	lines := slices.Compact(slices.Sorted(strings.SplitSeq(strings.TrimSpace(out), "\n")))
	lines = slices.Insert(lines, 0, "The Go standard library\t"+strings.TrimSpace(goroot))
	var b bytes.Buffer
	b.WriteString("berth is built with the following, each under the licence that follows its name.\n")
	for _, line := range lines {
		name, dir, ok := strings.Cut(line, "\t")
		if !ok {
			continue // packages of the standard library have no module
		}
		if err := appendNotices(&b, name, dir); err != nil {
			return "", err
		}
	}
	// "make web" collects those of what is in the window and the player.
	web, err := os.ReadFile(filepath.Join(r.root, "internal", "web", "dist", "LICENSES"))
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "\n%s\n%s", strings.Repeat("=", 80), web)
	dir := filepath.Join(r.work, t.os+"-"+t.arch)
	const name = "THIRD_PARTY_LICENSES"
	return filepath.Join(dir, name), place(dir, name, b.Bytes())
}

// appendNotices adds the licence files of a module. A module that is a part of
// a repository has that one's: Go packs it along.
func appendNotices(b *bytes.Buffer, name, dir string) error {
	files := noticeFiles(dir)
	if len(files) == 0 {
		return fmt.Errorf("no licence of %s in %s", name, dir)
	}
	fmt.Fprintf(b, "\n%s\n%s\n", strings.Repeat("=", 80), name)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "\n--- %s\n\n%s\n", filepath.Base(file), bytes.TrimSpace(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))))
	}
	return nil
}

func noticeFiles(dir string) (files []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		for _, prefix := range []string{"LICENSE", "LICENCE", "COPYING", "NOTICE"} {
			if strings.HasPrefix(name, prefix) && e.Type().IsRegular() {
				files = append(files, filepath.Join(dir, e.Name()))
				break
			}
		}
	}
	slices.SortFunc(files, cmp.Compare[string])
	return files
}
