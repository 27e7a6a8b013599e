package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// verify builds what a file of a release was built from, and says whether it is
// the same, to the byte. The source must be that of the release.
func verify(ctx context.Context, root, artefact, maintainer, homepage string) error {
	name := filepath.Base(artefact)
	t, err := targetOf(name)
	if err != nil {
		return err
	}
	want, err := sumOf(artefact)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "berth-verify-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r, err := newRelease(ctx, root, filepath.Join(dir, "dist"), t.String())
	if err != nil {
		return err
	}
	r.maintainer, r.homepage = maintainer, homepage
	if err := r.build(ctx); err != nil {
		return err
	}
	got, err := sumOf(filepath.Join(r.out, name))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("this source is berth %s, and makes no %s: check out the commit of its tag", r.version.semver(), name)
	}
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s is NOT what this source gives:\n  its checksum   %s\n  built here     %s\n"+
			"MAINTAINER, HOMEPAGE and the version of Go must be those of the release notes", name, want, got)
	}
	fmt.Printf("dist: %s is what this source gives, byte for byte (sha256 %s)\n", name, got)
	return nil
}

// targetOf tells by a file's name for which system it is.
func targetOf(name string) (target, error) {
	if strings.HasSuffix(name, ".msi") {
		return target{}, errors.New("an MSI holds the time at which it was made, so no two are the same; verify the .zip, which has the same program")
	}
	for _, t := range targets {
		for _, arch := range []string{t.arch, machine[t.arch]} {
			if strings.Contains(name, t.os+"_"+arch+".") {
				return t, nil
			}
			for _, suffix := range []string{"_" + arch + ".deb", "." + arch + ".rpm", "." + arch + ".apk", "-" + arch + ".pkg.tar.zst"} {
				if t.os == "linux" && strings.HasSuffix(name, suffix) {
					return t, nil
				}
			}
		}
	}
	return target{}, fmt.Errorf("%s is no file of a release", name)
}
