package memsql

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"

	"berth/internal/simcluster/simdb"
)

func start(t *testing.T) *Server {
	t.Helper()
	s, err := New("app")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func client(t *testing.T, s *Server) *sql.DB {
	t.Helper()
	cfg := mysql.NewConfig()
	cfg.User, cfg.DBName, cfg.Logger = "alice", "app", &mysql.NopLogger{} // one test breaks its connection
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return s.Dial(ctx) }
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestMySQLProtocol(t *testing.T) {
	db := client(t, start(t))
	for _, statement := range []string{"create table t (id int primary key, name varchar(9))", "insert into t values (1, 'a'), (2, 'b')"} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	for query, want := range map[string]string{
		"select version()":                version,
		"select database()":               "app",
		"show tables":                     "t",
		"select name from t where id = ?": "b",
		// What Connector/J, and so DBeaver, asks first.
		"select @@session.auto_increment_increment as a": "1",
	} {
		var args []any
		if want == "b" {
			args = []any{2}
		}
		var got string
		if err := db.QueryRowContext(t.Context(), query, args...).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %q, %v; want %q", query, got, err, want)
		}
	}
}

func TestQuery(t *testing.T) {
	s := start(t)
	query := func(sql string) *simdb.Result {
		t.Helper()
		r, err := s.Query(t.Context(), "app", sql)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return r
	}
	for statement, tag := range map[string]string{
		"create table t (id int primary key, name varchar(9), price decimal(8,2), day date, big bigint unsigned)": "CREATE TABLE",
	} {
		if got := query(statement); got.Tag != tag {
			t.Errorf("%s: tag %q, want %q", statement, got.Tag, tag)
		}
	}
	if got := query("insert into t values (1, 'a', 1.5, '2026-01-02', 7), (2, null, null, null, null)"); got.Tag != "INSERT 0 2" {
		t.Errorf("insert: tag %q", got.Tag)
	}
	want := &simdb.Result{
		Columns: []string{"id", "name", "price", "day", "big", "Both"},
		Rows:    [][]any{{int64(1), "a", "1.50", "2026-01-02", "7", "ax"}, {int64(2), nil, nil, nil, nil, nil}},
	}
	if diff := cmp.Diff(want, query(`select t.*, concat(name, 'x') as "Both" from t order by id`)); diff != "" {
		t.Errorf("select (-want +got):\n%s", diff)
	}
	if got := query("delete from t where id = 2"); got.Tag != "DELETE 1" {
		t.Errorf("delete: tag %q", got.Tag)
	}
	if _, err := s.Query(t.Context(), "app", "select * from nowhere"); err == nil {
		t.Error("a table that is not there was read")
	}
}

// Close ends the connections, and what comes later is refused.
func TestClose(t *testing.T) {
	s, err := New("app")
	if err != nil {
		t.Fatal(err)
	}
	db := client(t, s)
	if err := db.PingContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.PingContext(t.Context()); err == nil {
		t.Error("a closed server answers")
	}
	if _, err := s.Dial(t.Context()); err == nil {
		t.Error("a closed server takes connections")
	}
	if got := fmt.Sprint(s.conns.Addr()); got != "memsql" {
		t.Errorf("address %q", got)
	}
}
