package simdb

import (
	"context"
	"slices"
	"testing"
)

func TestSplitSQL(t *testing.T) {
	for script, want := range map[string][]string{
		"":                              nil,
		" ; ;":                          nil,
		"-- nothing":                    nil,
		"select 1":                      {"select 1"},
		"a; b;":                         {"a", "b"},
		"select ';'; select \";\"":      {"select ';'", "select \";\""},
		"a /* ; */ b; -- c;\n d":        {"a /* ; */ b", "d"},
		"begin; select 1, 2; commit  ;": {"begin", "select 1, 2", "commit  "},
	} {
		got, err := splitSQL(script)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("splitSQL(%q) = %q, %v; want %q", script, got, err, want)
		}
	}
}

func FuzzSQL(f *testing.F) {
	for _, s := range []string{"select 1", "select a from generate_series(1,2) a limit 1", "select $1::int || 'x'", "show x", "set a=b; begin"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, script string) {
		statements, err := splitSQL(script)
		if err != nil {
			return
		}
		c := &pgConn{pg: NewPostgres(), session: testSession()}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // parse everything, run nothing for long
		for _, sql := range statements {
			if stmt, err := c.parse(sql); err == nil && stmt.rows != nil {
				_, _ = stmt.rows(ctx, c, make([]any, len(stmt.params)), func([]any) error { return nil })
			}
			my := &myConn{my: NewMySQL(), session: testSession()}
			if _, err := my.parse(sql); err != nil && err.Error() == "" {
				t.Errorf("an error without words for %q", sql)
			}
		}
	})
}
