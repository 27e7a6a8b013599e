package tsh

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"berth/internal/plain"
)

// versionTimeout is generous: tsh answers in 0.1 s from a warm cache, and a
// laptop that has just woken up may need many times that.
const versionTimeout = 15 * time.Second

// Version is a Teleport version.
type Version struct {
	Major, Minor, Patch int
	Pre                 string // what follows the patch's "-"; empty for a release
}

// String returns it as Teleport writes it, without the leading v.
func (v Version) String() string {
	s := fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch)
	if v.Pre != "" {
		s += "-" + v.Pre
	}
	return s
}

// AtLeast reports whether v is least or newer. Pre-releases count as the release
// they lead to: Teleport's own limits are written with a suffix such as "-aa"
// so that development builds pass.
func (v Version) AtLeast(least Version) bool {
	return cmp.Or(
		cmp.Compare(v.Major, least.Major),
		cmp.Compare(v.Minor, least.Minor),
		cmp.Compare(v.Patch, least.Patch),
	) >= 0
}

// versionPattern finds a version in a line such as
// "Teleport v16.0.0-dev git:v16.0.0 go1.22".
var versionPattern = regexp.MustCompile(
	`(?:^|[\sv"])(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?:-([0-9A-Za-z.-]{1,64}))?(?:\+[0-9A-Za-z.-]+)?(?:$|[\s",])`)

// ParseVersion reads a version: alone, with a leading v, or the first in what
// "tsh version" prints, as text or as JSON.
func ParseVersion(text string) (Version, error) {
	var parsed struct {
		Version string `json:"version"`
	}
	if json.Unmarshal([]byte(text), &parsed) == nil && parsed.Version != "" {
		text = parsed.Version
	}
	m := versionPattern.FindStringSubmatch(plain.Text(text))
	if m == nil {
		return Version{}, fmt.Errorf("no version in %q", clip(oneLine(text), 80))
	}
	var v Version
	for i, field := range []*int{&v.Major, &v.Minor, &v.Patch} {
		n, err := strconv.Atoi(m[i+1])
		if err != nil {
			return Version{}, fmt.Errorf("version %q: %w", m[0], err)
		}
		*field = n
	}
	v.Pre = m[4]
	return v, nil
}

// ReadVersion asks the tsh at path for its version. It does not connect to any
// cluster.
func ReadVersion(ctx context.Context, path string) (Version, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	out, err := Command(ctx, path, "", "version", "--client", "--format=json").Output()
	if err != nil && ctx.Err() == nil { // a tsh without that format
		out, err = Command(ctx, path, "", "version", "--client").Output()
	}
	if ctx.Err() != nil {
		err = ctx.Err() // and not that tsh was killed for it
	}
	if err != nil {
		return Version{}, fmt.Errorf("ask %q for its version: %w", path, err)
	}
	v, err := ParseVersion(string(out))
	if err != nil {
		return Version{}, fmt.Errorf("ask %q for its version: %w", path, err)
	}
	return v, nil
}
