package main

import (
	"bytes"
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
	if os.Getenv("GOGC") == "" { // the compiler ends soon: collecting its garbage is a sixth of its work
		env = append([]string{"GOGC=off", "GOMEMLIMIT=1500MiB"}, env...)
	}
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

// notices are the licences of what is in the program: "make deps" gathers them.
func (r *release) notices() string {
	return filepath.Join(r.root, "internal", "licenses", "THIRD_PARTY_LICENSES")
}
