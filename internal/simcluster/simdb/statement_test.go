package simdb

import (
	"context"
	"slices"
	"testing"
)

func TestStatements(t *testing.T) {
	for script, want := range map[string][]string{
		"":                              nil,
		" ; ;":                          nil,
		"-- nothing":                    nil,
		"select 1":                      {"select 1"},
		"a; b;":                         {"a", "b"},
		"select ';'; select \";\"":      {"select ';'", "select \";\""},
		"a /* ; */  b; -- c;\n d":       {"a b", "d"},
		"begin; select 1, 2; commit  ;": {"begin", "select 1, 2", "commit"},
		"select 'it''s  so'":            {"select 'it''s  so'"},
		"select 'open":                  {"select 'open"},
	} {
		if got := statements(script); !slices.Equal(got, want) {
			t.Errorf("statements(%q) = %q, want %q", script, got, want)
		}
	}
}

func FuzzSQL(f *testing.F) {
	for _, s := range []string{"select 1", "select 'a', user as b limit 1", "select repeat('x', 9)", "show x", "set a=b; begin"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, script string) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // read everything, run nothing for long
		pg := &pgConn{pg: NewPostgres(), session: testSession()}
		my := &myConn{session: testSession()}
		for _, sql := range statements(script) {
			for _, answer := range []func(context.Context, string) (*Result, error){pg.answer, my.answer} {
				r, err := answer(ctx, sql)
				if (r == nil) == (err == nil) {
					t.Fatalf("%q: %v, %v", sql, r, err)
				}
				if err != nil && err.Error() == "" {
					t.Errorf("an error without words for %q", sql)
				}
				if err == nil {
					for _, row := range r.Rows {
						if len(row) != len(r.Columns) {
							t.Errorf("%q: a row of %d in %d columns", sql, len(row), len(r.Columns))
						}
					}
					_ = describe(r, nil)
				}
			}
		}
	})
}
