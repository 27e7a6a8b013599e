package testneeds

import (
	"errors"
	"fmt"
	"testing"
)

// asked records what becomes of a test.
type asked struct {
	testing.TB
	skipped, failed string
}

func (a *asked) Helper()                        {}
func (a *asked) Skipf(format string, v ...any)  { a.skipped = fmt.Sprintf(format, v...) }
func (a *asked) Fatalf(format string, v ...any) { a.failed = fmt.Sprintf(format, v...) }

func TestTool(t *testing.T) {
	for _, ci := range []string{"", "true"} {
		t.Setenv("CI", ci)
		there := &asked{}
		Tool(there, "psql", nil)
		if there.skipped+there.failed != "" {
			t.Errorf("with psql: skipped %q, failed %q", there.skipped, there.failed)
		}
		a := &asked{}
		Tool(a, "psql", errors.New("not found"))
		const want = "needs psql: install postgresql-client, as make test-deps does (not found)"
		switch {
		case ci == "" && (a.skipped != want || a.failed != ""):
			t.Errorf("skipped %q, failed %q", a.skipped, a.failed)
		case ci != "" && (a.skipped != "" || a.failed != want):
			t.Errorf("in CI: skipped %q, failed %q", a.skipped, a.failed)
		}
	}
}

func TestHere(t *testing.T) {
	t.Setenv("CI", "true") // where a machine may lack what cannot be installed
	a := &asked{}
	Here(a, "IPv6", nil)
	if a.skipped != "" {
		t.Errorf("skipped %q", a.skipped)
	}
	Here(a, "IPv6", errors.New("no such address"))
	if a.skipped != "needs IPv6: no such address" || a.failed != "" {
		t.Errorf("skipped %q, failed %q", a.skipped, a.failed)
	}
}
