package simdb

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"berth/internal/wake"
)

// Result is what a statement is answered with.
type Result struct {
	Columns []string
	Rows    [][]any // of string, int64, bool or nil
	Tag     string  // what PostgreSQL calls what was done; empty means SELECT
}

// errCanceled ends a statement that another connection canceled.
var errCanceled = errors.New("canceling statement due to user request")

// maxRepeat bounds the strings that repeat makes.
const maxRepeat = 1 << 20

// identityQuery asks which client cert the connection was made with.
var identityQuery = regexp.MustCompile(`(?i)^select \* from session_identity$`)

// selectItem is one item of a select list that needs no table: a number, a
// text, a value of the server, or a call of sleep or repeat.
var selectItem = regexp.MustCompile(`(?i)^(?:(\d{1,18})|'([^']*)'` +
	`|(@{0,2}[a-z_][a-z_.]*)(?:\((?:'(.)', ?)?([\d.]*)\))?)` +
	`(?: as "?(\w+)"?)?(?:, ?|( limit 1)?$)`)

// selectList answers a select over no table whose values the server knows, and
// reports whether sql is one. It sleeps where it is asked to.
func selectList(ctx context.Context, sql string, value func(name string) (any, bool)) (*Result, bool, error) {
	if len(sql) < 7 || !strings.EqualFold(sql[:7], "select ") {
		return nil, false, nil
	}
	r := &Result{Rows: [][]any{nil}}
	for rest := sql[7:]; rest != ""; {
		m := selectItem.FindStringSubmatch(rest)
		if m == nil {
			return nil, false, nil
		}
		name, v, ok, err := evaluate(ctx, m, value)
		if !ok || err != nil {
			return nil, ok, err
		}
		if m[6] != "" {
			name = m[6]
		}
		r.Columns = append(r.Columns, name)
		r.Rows[0] = append(r.Rows[0], v)
		rest = rest[len(m[0]):]
	}
	return r, true, nil
}

// evaluate returns the name and value of a match of selectItem.
func evaluate(
	ctx context.Context, m []string, value func(string) (any, bool),
) (name string, v any, ok bool, err error) {
	name = strings.ToLower(strings.TrimPrefix(m[3], "pg_catalog."))
	switch {
	case m[1] != "":
		n, err := strconv.ParseInt(m[1], 10, 64)
		return "?column?", n, true, err
	case name == "":
		return "?column?", m[2], true, nil
	case name == "repeat" && m[4] != "":
		n, err := strconv.Atoi(m[5])
		if err != nil || n > maxRepeat {
			return name, nil, true, fmt.Errorf("repeat: cannot repeat %q times", m[5])
		}
		return name, strings.Repeat(m[4], n), true, nil
	case name == "pg_sleep" || name == "sleep":
		return name, "", true, pause(ctx, m[5])
	case m[4]+m[5] != "":
		return name, nil, false, nil // a function of something
	}
	v, ok = value(name)
	return name, v, ok, nil
}

// pause sleeps for a number of seconds, as pg_sleep and sleep do.
func pause(ctx context.Context, seconds string) error {
	s, err := strconv.ParseFloat(seconds, 64)
	if err != nil {
		return fmt.Errorf("invalid duration %q", seconds)
	}
	if !wake.Sleep(ctx, time.Duration(s*float64(time.Second))) {
		return context.Cause(ctx)
	}
	return nil
}

func identityResult(s Session) *Result {
	r := &Result{Columns: []string{"name", "value"}}
	for _, kv := range s.identity() {
		r.Rows = append(r.Rows, []any{kv[0], kv[1]})
	}
	return r
}

// statements splits a script at its semicolons. Comments are dropped and white
// space is one blank, except within quotes.
func statements(script string) []string {
	var all []string
	var b strings.Builder
	end := func() {
		if s := strings.TrimSpace(b.String()); s != "" {
			all = append(all, s)
		}
		b.Reset()
	}
	for script != "" {
		n := tokenLen(script)
		token := script[:n]
		script = script[n:]
		switch {
		case token == ";":
			end()
		case strings.HasPrefix(token, "--"), strings.HasPrefix(token, "/*"), strings.TrimSpace(token) == "":
			if s := b.String(); s != "" && !strings.HasSuffix(s, " ") {
				b.WriteByte(' ')
			}
		default:
			b.WriteString(token)
		}
	}
	end()
	return all
}

// tokenLen is the length of the quoted text, comment, blank or character that
// sql, not empty, begins with. What is not closed goes on to the end.
func tokenLen(sql string) int {
	until := func(from int, mark string) int {
		if i := strings.Index(sql[from:], mark); i >= 0 {
			return from + i + len(mark)
		}
		return len(sql)
	}
	switch {
	case sql[0] == '\'', sql[0] == '"', sql[0] == '`':
		return until(1, sql[:1])
	case strings.HasPrefix(sql, "--"):
		return until(2, "\n")
	case strings.HasPrefix(sql, "/*"):
		return until(2, "*/")
	case strings.TrimLeft(sql[:1], " \t\r\n\f\v") == "":
		return len(sql) - len(strings.TrimLeft(sql, " \t\r\n\f\v"))
	}
	return 1
}

// firstWord returns the first word of a statement, in lower case.
func firstWord(sql string) string {
	word, _, _ := strings.Cut(sql, " ")
	return strings.ToLower(word)
}
