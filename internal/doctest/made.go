package doctest

import (
	"os"
	"path/filepath"
	"testing"
)

// Made fails t unless the page of that name in docs, below the root of the
// project, says just what the code made. With update it is written first.
func Made(t testing.TB, root, name, content string, update bool) {
	t.Helper()
	path := filepath.Join(root, "docs", name)
	if update {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil { //nolint:gosec // a page for every user to read
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(raw) != content {
		t.Errorf("docs/%s is out of date: make docs", name)
	}
}
