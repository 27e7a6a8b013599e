package doctest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	uses   = regexp.MustCompile(`(?m)^\s*(?:- )?uses:\s*(.*)$`)
	pinned = regexp.MustCompile(`^[\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	asks   = regexp.MustCompile(`(?m)^permissions:\n  contents: read\n\n`)
)

// TestDocsWorkflows holds every workflow to what a reviewer would ask for: an
// action is named by its commit, because a tag can be moved, and a job may
// write nothing unless it says so itself.
func TestDocsWorkflows(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, ".github", "workflows", "*.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 3 {
		t.Fatalf("found %d workflows: the search is broken", len(files))
	}
	commits := make(map[string]string)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !asks.Match(raw) {
			t.Errorf("%s: the whole workflow may do more than read", file)
		}
		for _, m := range uses.FindAllStringSubmatch(string(raw), -1) {
			if !pinned.MatchString(m[1]) {
				t.Errorf("%s: %q is not a commit with its version behind it", file, m[1])
				continue
			}
			name, commit, _ := strings.Cut(m[1], "@")
			if old, ok := commits[name]; ok && old != commit {
				t.Errorf("%s: %s is %s here and %s elsewhere", file, name, commit, old)
			}
			commits[name] = commit
		}
	}
}
