package doctest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// shown matches a test that a page names, by its folder.
var shown = regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz)\\w+)`")

// TestDocsThreats: every row of the threat model names a test, and each named test is
// one.
func TestDocsThreats(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "SECURITY-MODEL.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "\n| asset | attacker | what stops it | shown by |\n|---|---|---|---|\n")
	if !found {
		t.Fatal("the page has no table of threats")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	rows := strings.Split(table, "\n")
	if len(rows) < 15 {
		t.Errorf("the table has %d rows: the search is broken", len(rows))
	}
	for _, row := range rows {
		named := shown.FindAllStringSubmatch(row, -1)
		if cells := strings.Count(row, " | "); cells != 3 || len(named) == 0 {
			t.Errorf("%d cells and %d tests are in the row %s", cells+1, len(named), row)
		}
		for _, n := range named {
			if !hasTest(t, n[1], n[2]) {
				t.Errorf("%s has no %s", n[1], n[2])
			}
		}
	}
	if hasTest(t, "internal/doctest", "TestDocs") {
		t.Error("a test is found that there is not")
	}
}

// hasTest reports whether the tests of a folder have one called name.
func hasTest(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(folder), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}
