package simdb

import (
	"context"
	"errors"
	"fmt"
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
	for _, tt := range []struct{ name, sql, want string }{
		{"one", "select 1", "1"},
		{"upper_case_and_semicolon", "SELECT 1;", "1"},
		{"comments", "/* a; b */ select -- c\n 1", "1"},
		{"text", "select 'It;s -- a text'", "It;s -- a text"},
		{"user", "select current_user", "bob"},
		{"database", "select current_database()", "app"},
		{"schema_qualified", "select pg_catalog.current_database()", "app"},
		{"sleep", "select pg_sleep(0.01)", ""},
		{"alias", "select 5 as n", "5"},
		{"recovery", "select pg_is_in_recovery()", "false"},
		{"setting", "show transaction isolation level", "read committed"},
		{"identity", "select * from session_identity", "serial"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeDescribeExec} {
				rows, err := conn.Query(t.Context(), tt.sql, mode)
				if err != nil {
					t.Fatal(err)
				}
				got := ""
				for rows.Next() {
					values, err := rows.Values()
					if err != nil {
						t.Fatal(err)
					}
					if got == "" {
						got = fmt.Sprint(values[0])
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
		"select":                           "does not know",
		"select nonsense()":                "does not know",
		"select * from users":              "does not know",
		"insert into t values (1)":         "does not know",
		"select 'a":                        "does not know",
		"select 1 +":                       "does not know",
		"select repeat('x', 999999999999)": "cannot repeat",
		"select pg_sleep(1.2.3)":           "invalid duration",
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

// What the server does not know itself is asked of Query, once, with the
// parameters in it.
func TestPostgresQuery(t *testing.T) {
	pg := NewPostgres()
	var asked []string
	pg.Query = func(_ context.Context, db, sql string) (*Result, error) {
		asked = append(asked, db+": "+sql)
		if strings.HasPrefix(sql, "insert") {
			return &Result{Tag: "INSERT 0 1"}, nil
		}
		return &Result{Columns: []string{"id", "name", "there"}, Rows: [][]any{{nil, nil, nil}, {int64(7), "it's", true}}}, nil
	}
	conn := pgClient(t, pg, testSession())
	tag, err := conn.Exec(t.Context(), "insert into t values ($1, $2)", "it's", "2")
	if err != nil || tag.String() != "INSERT 0 1" {
		t.Errorf("insert: %s, %v", tag, err)
	}
	rows, err := conn.Query(t.Context(), "select id, name, there from t where id < $1::int", "9")
	if err != nil {
		t.Fatal(err)
	}
	var got [][]any
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, values)
	}
	if diff := cmp.Diff([][]any{{nil, nil, nil}, {int64(7), "it's", true}}, got); rows.Err() != nil || diff != "" {
		t.Errorf("rows (-want +got), %v:\n%s", rows.Err(), diff)
	}
	want := []string{
		"app: insert into t values ('it''s', '2')",
		"app: select id, name, there from t where id < null::int", // to know the columns
		"app: select id, name, there from t where id < '9'::int",
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
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
		t.Fatalf("refused client got %v", err)
	}
	if diff := cmp.Diff(&pgconn.PgError{Message: "access to db denied"}, pg); diff != "" {
		t.Errorf("refused client got (-want +got):\n%s", diff)
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
		"select current_user, current_database()": "bob|app",
		"select * from session_identity":          "serial|4711\nteleport_user|alice\ncluster|sim.test\nservice|db\nroles|access,dba\nrequests|r1\nnot_after|2030-01-02T03:04:05Z",
	} {
		if got, err := run(t, "psql", "-X", "-At", url, "-c", sql); err != nil || got != want {
			t.Errorf("psql: %s = %q, %v; want %q", sql, got, err, want)
		}
	}
}
