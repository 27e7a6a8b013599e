package simdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func pgClient(t *testing.T, b Backend, s Session) *pgx.Conn {
	t.Helper()
	addr := serve(t, b, s)
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://bob@%s/app?sslmode=disable", addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func TestPostgresSelect(t *testing.T) {
	conn := pgClient(t, NewPostgres(), testSession())
	for _, tt := range []struct {
		name, sql string
		args      []any
		want      string
	}{
		{"one", "select 1", nil, "1"},
		{"upper_case_and_semicolon", "SELECT 1;", nil, "1"},
		{"comments", "/* a; b */ select -- c\n 1", nil, "1"},
		{"arithmetic", "select 1 + 2 * 3 - 4", nil, "3"},
		{"brackets", "select (1 + 2) * 3", nil, "9"},
		{"negative", "select -5", nil, "-5"},
		{"text", "select 'it''s'", nil, "it's"},
		{"concatenation", "select 'a' || 'b' || 1", nil, "ab1"},
		{"user", "select current_user", nil, "bob"},
		{"database", "select current_database()", nil, "app"},
		{"schema_qualified", "select pg_catalog.current_database()", nil, "app"},
		{"int_param", "select $1::int + 1", []any{41}, "42"},
		{"text_param", "select $1", []any{"hello"}, "hello"},
		{"two_params", "select $2::text || $1::text", []any{"a", "b"}, "ba"},
		{"bool", "select true", nil, "true"},
		{"null", "select null", nil, "NULL"},
		{"cast", "select '7'::int", nil, "7"},
		{"repeat", "select length(repeat('ab', 1000))", nil, "2000"},
		{"sleep", "select pg_sleep(0.01)", nil, ""},
		{"alias", "select 5 as n", nil, "5"},
		{"recovery", "select pg_is_in_recovery()", nil, "false"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeDescribeExec} {
				if mode == pgx.QueryExecModeSimpleProtocol && tt.args != nil {
					continue // pgx would quote them itself
				}
				rows, err := conn.Query(t.Context(), tt.sql, append([]any{mode}, tt.args...)...)
				if err != nil {
					t.Fatal(err)
				}
				got := "no row"
				for rows.Next() {
					values, err := rows.Values()
					if err != nil {
						t.Fatal(err)
					}
					got = fmt.Sprint(values[0])
					if values[0] == nil {
						got = "NULL"
					}
				}
				if err := rows.Err(); err != nil || got != tt.want {
					t.Errorf("%s (mode %v) = %q, %v; want %q", tt.sql, mode, got, err, tt.want)
				}
			}
		})
	}
}

func TestPostgresErrorsLeaveTheConnectionUsable(t *testing.T) {
	conn := pgClient(t, NewPostgres(), testSession())
	for sql, want := range map[string]string{
		"select":                                   "syntax error at end of input",
		"select nonsense":                          `column "nonsense" does not exist`,
		"select nonsense()":                        "function nonsense does not exist",
		"select * from users":                      `relation "users" does not exist`,
		"select *":                                 "no tables specified",
		"insert into t values (1)":                 "does not know",
		"select 'a":                                "unterminated quote",
		"select 1 +":                               "syntax error",
		"select (1":                                "syntax error",
		"select 99999999999999999999":              "out of range",
		"select 'x'::int":                          "invalid input syntax for type integer",
		"select repeat('x', 999999999999)":         "cannot repeat",
		"select " + strings.Repeat("(", 500):       "nested more than",
		"select repeat('xx', 9223372036854775807)": "cannot repeat",
		"select $0":                                "there is no parameter",
		"select $5000":                             "there is no parameter",
	} {
		_, simple := conn.Exec(t.Context(), sql)
		extended := conn.PgConn().ExecParams(t.Context(), sql, nil, nil, nil, nil).Read().Err
		for protocol, err := range map[string]error{"simple": simple, "extended": extended} {
			var pg *pgconn.PgError
			if !errors.As(err, &pg) || !strings.Contains(pg.Message, want) {
				t.Errorf("%q (%s protocol): %v, want an error saying %q", sql, protocol, err, want)
			}
		}
		if err := conn.Ping(t.Context()); err != nil {
			t.Fatalf("ping after %q: %v", sql, err)
		}
		if res := conn.PgConn().ExecParams(t.Context(), "select 1", nil, nil, nil, nil).Read(); res.Err != nil || len(res.Rows) != 1 {
			t.Fatalf("select after %q: %v", sql, res.Err)
		}
	}
}

func TestPostgresScriptsAndTransactions(t *testing.T) {
	conn := pgClient(t, NewPostgres(), testSession())
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.PgConn().TxStatus(); got != 'T' {
		t.Errorf("status in a transaction %q, want T", got)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := conn.PgConn().TxStatus(); got != 'I' {
		t.Errorf("status after the commit %q, want I", got)
	}
	results, err := conn.PgConn().Exec(t.Context(), "set a to 1; select 1; select 2, 'b;c'; ; show server_version").ReadAll()
	if err != nil || len(results) != 4 || string(results[2].Rows[0][1]) != "b;c" || string(results[3].Rows[0][0]) != pgVersion {
		t.Errorf("script: %d results, %v", len(results), err)
	}
}

func TestPostgresBulk(t *testing.T) {
	conn := pgClient(t, NewPostgres(), testSession())
	const n = 20000
	rows, err := conn.Query(t.Context(), "select i, repeat('x', 100) from generate_series(1, $1::int) as i", n)
	if err != nil {
		t.Fatal(err)
	}
	var sum, bytes, i int
	var text string
	if _, err := pgx.ForEachRow(rows, []any{&i, &text}, func() error {
		sum += i
		bytes += len(text)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if sum != n*(n+1)/2 || bytes != 100*n {
		t.Errorf("sum %d, %d bytes", sum, bytes)
	}
}

func TestPostgresCancel(t *testing.T) {
	conn := pgClient(t, NewPostgres(), testSession())
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), "select pg_sleep(60)")
		done <- err
	}()
	for {
		// The request may come before the query: repeat it.
		if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			var pg *pgconn.PgError
			if !errors.As(err, &pg) || pg.Code != "57014" {
				t.Errorf("canceled query: %v, want code 57014", err)
			}
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestPostgresRefusal(t *testing.T) {
	addr := serve(t, NewPostgres(), refuse())
	_, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://bob@%s/app?sslmode=disable", addr))
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		t.Fatalf("refused client was told %v", err)
	}
	if diff := cmp.Diff(&pgconn.PgError{Message: "access to db denied"}, pg); diff != "" {
		t.Errorf("refused client was told (-want +got):\n%s", diff)
	}
}

func TestPostgresAsksForTheStartupUser(t *testing.T) {
	s := testSession()
	var asked string
	s.Authorize = func(user, db string) error {
		asked = user + "@" + db
		return nil
	}
	pgClient(t, NewPostgres(), s)
	if asked != "bob@app" {
		t.Errorf("asked for %s, want bob@app", asked)
	}
}

func TestPSQL(t *testing.T) {
	addr := serve(t, NewPostgres(), testSession())
	url := fmt.Sprintf("postgres://bob@%s/app?sslmode=prefer", addr)
	for sql, want := range map[string]string{
		"select 1": "1",
		"select current_user, current_database()":     "bob|app",
		"select session identity":                     "serial|4711\nteleport_user|alice\ncluster|sim.test\nservice|db\nroles|access,dba\nrequests|r1\nnot_after|2030-01-02T03:04:05Z",
		"select n from generate_series(1, 3) t(n)":    "1\n2\n3",
		"select * from generate_series(1, 3) limit 2": "1\n2",
	} {
		if got, err := run(t, "psql", "-X", "-At", url, "-c", sql); err != nil || got != want {
			t.Errorf("psql: %s = %q, %v; want %q", sql, got, err, want)
		}
	}
}

func TestPgbench(t *testing.T) {
	addr := serve(t, NewPostgres(), testSession())
	script := filepath.Join(t.TempDir(), "s.sql")
	if err := os.WriteFile(script, []byte("begin;\nselect :client_id + 1;\nend;\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, protocol := range []string{"simple", "extended", "prepared"} {
		out, err := run(t, "pgbench", "-n", "-c", "3", "-t", "20", "-M", protocol, "-f", script,
			"-h", "127.0.0.1", "-p", strconv.Itoa(addr.Port), "-U", "bob", "app")
		if err != nil || !strings.Contains(out, "number of transactions actually processed: 60/60") {
			t.Errorf("pgbench -M %s: %v\n%s", protocol, err, out)
		}
	}
}
