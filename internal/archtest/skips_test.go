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

var skips = regexp.MustCompile(`(\w+)\.(Skip|Skipf|SkipNow)\(`)

// TestSkips checks that tests skip by internal/testneeds alone: its words are
// those by which "make test" lists what was skipped.
func TestSkips(t *testing.T) {
	root, besides := filepath.Join("..", ".."), []string{"testneeds", "build", "node_modules"}
	seen := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (slices.Contains(besides, d.Name()) || strings.HasPrefix(d.Name(), ".") && path != root) {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Contains(src, []byte(".Skip")) { // which is found sooner than by the pattern
			return nil
		}
		for _, m := range skips.FindAllSubmatch(src, -1) {
			if string(m[1]) != "testneeds" {
				t.Errorf("%s skips by %s, not by testneeds", path, m[0])
			}
			seen++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Error("no skip was seen: the check looks at the wrong folder")
	}
}
