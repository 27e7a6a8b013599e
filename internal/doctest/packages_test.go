package doctest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDocsPackages looks for every folder of packages in the map of
// docs/ARCHITECTURE.md.
func TestDocsPackages(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root, "docs", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, above := range []string{"agent", "internal", "proxies", "notify", "tray"} {
		sources, err := filepath.Glob(filepath.Join(root, above, "*", "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[string]bool)
		for _, source := range sources {
			name := above + "/" + filepath.Base(filepath.Dir(source))
			if seen[name] {
				continue
			}
			seen[name] = true
			found++
			if !strings.Contains(string(raw), name) {
				t.Errorf("docs/ARCHITECTURE.md does not say what %s is for", name)
			}
		}
	}
	if found < 20 {
		t.Errorf("found %d packages: the search is broken", found)
	}
}
