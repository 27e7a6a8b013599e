package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// version is the version by git, in the form that each format wants.
type version struct {
	base  string    // 1.2.3, of the last tag; 0.0.0 if there is none
	pre   string    // rc.1, of a tag v1.2.3-rc.1; empty for most
	after int       // commits since the tag
	hash  string    // of the commit; empty on a tag
	at    time.Time // of the commit
	dirty bool      // the source was changed since
}

// sourceVersion asks git. SOURCE_DATE_EPOCH, when set, is the time instead of
// the commit's, and BERTH_VERSION what "git describe" would say, for sources
// without a repository.
func sourceVersion(ctx context.Context, root string, env func(string) string) (version, time.Time, error) {
	described, stamp := env("BERTH_VERSION"), env("SOURCE_DATE_EPOCH")
	var err error
	if described == "" {
		described, err = git(ctx, root, "describe", "--tags", "--long", "--always", "--dirty", "--match", "v[0-9]*")
		if err != nil {
			return version{}, time.Time{}, err
		}
	}
	if stamp == "" {
		if stamp, err = git(ctx, root, "log", "-1", "--format=%ct"); err != nil {
			return version{}, time.Time{}, err
		}
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return version{}, time.Time{}, fmt.Errorf("the time of the source: %w", err)
	}
	at := time.Unix(seconds, 0).UTC()
	v, err := parseVersion(described, at)
	return v, at, err
}

func git(ctx context.Context, root string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w (without a repository set BERTH_VERSION and SOURCE_DATE_EPOCH)", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

var (
	describedTag  = regexp.MustCompile(`^v(\d+\.\d+\.\d+)(?:-([0-9A-Za-z]+(?:\.[0-9A-Za-z]+)*))?-(\d+)-g([0-9a-f]+)$`)
	describedHash = regexp.MustCompile(`^[0-9a-f]+$`)
)

// parseVersion reads what "git describe --long --always --dirty" says.
func parseVersion(described string, at time.Time) (version, error) {
	rest, dirty := strings.CutSuffix(described, "-dirty")
	if m := describedTag.FindStringSubmatch(rest); m != nil {
		after, err := strconv.Atoi(m[3])
		if err != nil {
			return version{}, fmt.Errorf("version %q: %w", described, err)
		}
		v := version{base: m[1], pre: m[2], after: after, at: at, dirty: dirty}
		if after > 0 {
			v.hash = m[4]
		}
		return v, nil
	}
	if describedHash.MatchString(rest) {
		return version{base: "0.0.0", hash: rest, at: at, dirty: dirty}, nil
	}
	return version{}, fmt.Errorf("version %q is neither a tag's, such as v1.2.3, nor a commit", described)
}

// semver is the version as the program tells it and files are named.
func (v version) semver() string { return v.with("-", "-git", "+") }

// deb is the version for deb and rpm, where a tilde sorts before nothing.
func (v version) deb() string { return v.with("~", "~git", "+") }

// arch is the version for pacman, which takes neither hyphen nor tilde; letters
// sort before nothing.
func (v version) arch() string { return v.with("", "git", "+") }

// with writes the version with what goes before the name of a pre-release, before
// the date of a commit without a tag, and before the count of commits since one.
func (v version) with(pre, untagged, since string) string {
	s := v.base
	if v.pre != "" {
		s += pre + v.pre
	}
	switch {
	case v.hash != "" && v.after == 0:
		s += untagged + v.at.Format("20060102150405") + "." + v.hash
	case v.after > 0:
		s += since + strconv.Itoa(v.after) + "." + v.hash
	}
	if v.dirty {
		s += ".dirty"
	}
	return s
}

// apk is the version for Alpine, which knows suffixes of its own and no hash.
func (v version) apk() string {
	switch {
	case v.pre != "":
		return v.base + apkPre(v.pre)
	case v.hash != "" && v.after == 0:
		return v.base + "_pre" + v.at.Format("20060102150405")
	case v.after > 0:
		return v.base + "_git" + strconv.Itoa(v.after)
	default:
		return v.base
	}
}

// apkPre is the suffix of a pre-release: Alpine takes four names, each with a
// number.
func apkPre(pre string) string {
	name := strings.ToLower(strings.TrimRight(pre, ".0123456789"))
	if !slices.Contains([]string{"alpha", "beta", "rc"}, name) {
		return "_pre"
	}
	return "_" + name + strings.TrimLeft(pre[len(name):], ".")
}
