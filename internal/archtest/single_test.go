package archtest

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// single are things that berth has one of, and how another one would look.
var single = []struct {
	looks *regexp.Regexp
	words []string // one of which stands wherever it looks so: they are found sooner
	in    string   // the only folder that may have it
	why   string
}{
	{
		looks: regexp.MustCompile(`unicode\.Cf\b|"github\.com/rivo/uniseg"|\\x1b\\\\\[`), words: []string{"unicode.Cf", "rivo/uniseg", `\x1b\\[`}, in: "internal/plain",
		why: "package plain alone decides which text is safe to show",
	},
	{
		looks: regexp.MustCompile(`(?m)(^|;)\s*<-time\.After\(|\btime\.Sleep\(`), words: []string{"time.After(", "time.Sleep("}, in: "internal/wake",
		why: "wake.Sleep is the only sleep, and ends with its context",
	},
	{
		looks: regexp.MustCompile(`close\([\w.]+\)[^\n]*\n\s*[\w.]+ = make\(chan struct\{\}\)`), words: []string{"= make(chan struct{})"}, in: "internal/wake",
		why: "wake.Broadcast is the only channel that is closed to wake all who wait, and replaced",
	},
}

// TestSingle looks for seconds of what there is to be one of, in all code but
// what is for tests and the simulation.
func TestSingle(t *testing.T) {
	root, besides := filepath.Join("..", ".."), []string{"simcluster", "testwait", "build", "node_modules"}
	seen := make(map[string]bool)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (slices.Contains(besides, d.Name()) || strings.HasPrefix(d.Name(), ".") && path != root) {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, s := range single {
			if !slices.ContainsFunc(s.words, func(word string) bool { return bytes.Contains(src, []byte(word)) }) {
				continue
			}
			if m := s.looks.Find(src); m != nil && filepath.ToSlash(folder) != s.in {
				t.Errorf("%s has %q: %s", path, m, s.why)
			}
		}
		seen[filepath.ToSlash(folder)] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range single {
		if !seen[s.in] {
			t.Errorf("no code was seen in %s: the check looks at the wrong folder", s.in)
		}
	}
}
