package simdb

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

func myClient(t *testing.T, b Backend, s Session) *sql.DB {
	t.Helper()
	addr := serve(t, b, s)
	db, err := sql.Open("mysql", fmt.Sprintf("bob:any@tcp(%s)/app", addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestMySQLSelect(t *testing.T) {
	db := myClient(t, NewMySQL(), testSession())
	for _, tt := range []struct {
		name, sql string
		args      []any
		want      string
	}{
		{"one", "select 1", nil, "1"},
		{"user", "select user()", nil, "bob@localhost"},
		{"database", "select database()", nil, "app"},
		{"comment", "select @@version_comment limit 1", nil, "simulated MySQL"},
		{"version", "SELECT VERSION()", nil, mysqlVersion},
		{"variable_of_the_session", "select @@session.auto_increment_increment as a", nil, "1"},
		{"int_param", "select ? + 1", []any{41}, "42"},
		{"text_param", "select ?", []any{"hello"}, "hello"},
		{"float_param", "select ?", []any{1.5}, "1.5"},
		{"null_param", "select ?", []any{nil}, "NULL"},
		{"two_params", "select ? || ?", []any{"a", 7}, "a7"},
		{"null", "select null", nil, "NULL"},
		{"bool", "select true", nil, "1"},
		{"backticks", "select 1 as `select`", nil, "1"},
		{"long_text", "select length(repeat('x', 70000))", nil, "70000"},
		{"sleep", "select sleep(0.01)", nil, "0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got sql.NullString
			if err := db.QueryRowContext(t.Context(), tt.sql, tt.args...).Scan(&got); err != nil {
				t.Fatal(err)
			}
			if !got.Valid {
				got.String = "NULL"
			}
			if got.String != tt.want {
				t.Errorf("%s = %q, want %q", tt.sql, got.String, tt.want)
			}
		})
	}
}

func TestMySQLErrorsLeaveTheConnectionUsable(t *testing.T) {
	db := myClient(t, NewMySQL(), testSession())
	db.SetMaxOpenConns(1)
	for query, want := range map[string]string{
		"select":           "syntax error",
		"select nope()":    "does not exist",
		"select * from t":  "does not exist",
		"drop table users": "does not know",
		"":                 "Query was empty",
		"select 'x' + 1":   "invalid input syntax",
	} {
		_, err := db.ExecContext(t.Context(), query)
		var my *mysql.MySQLError
		if !errors.As(err, &my) || !strings.Contains(my.Message, want) {
			t.Errorf("%q: %v, want an error saying %q", query, err, want)
		}
		if err := db.PingContext(t.Context()); err != nil {
			t.Fatalf("ping after %q: %v", query, err)
		}
	}
	if _, err := db.PrepareContext(t.Context(), "select nope()"); err == nil {
		t.Error("a bad statement was prepared")
	}
}

func TestMySQLTransactionAndUse(t *testing.T) {
	db := myClient(t, NewMySQL(), testSession())
	db.SetMaxOpenConns(1)
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "use other"); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := tx.QueryRowContext(t.Context(), "select database()").Scan(&got); err != nil || got != "other" {
		t.Errorf("database() after use = %q, %v", got, err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

func TestMySQLBulk(t *testing.T) {
	db := myClient(t, NewMySQL(), testSession())
	rows, err := db.QueryContext(t.Context(), "select i, repeat('x', ?) from generate_series(1, 1000) i", 300)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n, bytes := 0, 0
	for rows.Next() {
		var i int
		var text string
		if err := rows.Scan(&i, &text); err != nil {
			t.Fatal(err)
		}
		n += i
		bytes += len(text)
	}
	if rows.Err() != nil || n != 1000*1001/2 || bytes != 300*1000 {
		t.Errorf("sum %d, %d bytes, %v", n, bytes, rows.Err())
	}
}

func TestMySQLHugePacket(t *testing.T) {
	db := myClient(t, NewMySQL(), testSession())
	var text string
	if err := db.QueryRowContext(t.Context(), "select repeat('x', 20000000)").Scan(&text); err != nil || len(text) != 20000000 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

func TestMySQLKill(t *testing.T) {
	db := myClient(t, NewMySQL(), testSession())
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var id int
	if err := conn.QueryRowContext(t.Context(), "select connection_id()").Scan(&id); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		var n int
		done <- conn.QueryRowContext(t.Context(), "select sleep(60)").Scan(&n)
	}()
	for {
		if _, err := db.ExecContext(t.Context(), fmt.Sprintf("kill query %d", id)); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			var my *mysql.MySQLError
			if !errors.As(err, &my) || my.Number != 1317 {
				t.Errorf("killed query: %v, want error 1317", err)
			}
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestMySQLRefusal(t *testing.T) {
	err := myClient(t, NewMySQL(), refuse()).PingContext(t.Context())
	var my *mysql.MySQLError
	if !errors.As(err, &my) || my.Message != "access to db denied" {
		t.Errorf("refused client was told %v", err)
	}
}

func TestMySQLGreetsWithTheWantedVersion(t *testing.T) {
	s := testSession()
	s.ServerVersion = "5.7.44"
	var got string
	if err := myClient(t, NewMySQL(), s).QueryRowContext(t.Context(), "select version()").Scan(&got); err != nil || got != "5.7.44" {
		t.Errorf("version() = %q, %v", got, err)
	}
}

func TestMySQLClient(t *testing.T) {
	addr := serve(t, NewMySQL(), testSession())
	for query, want := range map[string]string{
		"select 1":                         "1",
		"select @@version_comment limit 1": "simulated MySQL",
		"select user(), database()":        "bob@localhost\tapp",
		"select session identity":          "serial\t4711\nteleport_user\talice\ncluster\tsim.test\nservice\tdb\nroles\taccess,dba\nrequests\tr1\nnot_after\t2030-01-02T03:04:05Z",
		"show databases":                   "app",
	} {
		got, err := run(t, "mysql", "--no-defaults", "--protocol=tcp", "-h", "127.0.0.1", "-P", strconv.Itoa(addr.Port),
			"-u", "bob", "--skip-ssl", "-N", "-B", "app", "-e", query)
		if err != nil || got != want {
			t.Errorf("mysql: %s = %q, %v; want %q", query, got, err, want)
		}
	}
}

func FuzzMySQLMessages(f *testing.F) {
	login := append(binary.LittleEndian.AppendUint32(nil, myProtocol41), make([]byte, 28)...)
	f.Add(append(login, "bob\x00"...), []byte{myComQuery, 's'})
	f.Add(login, []byte{myComStmtExecute, 1, 0, 0, 0, 0, 1, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, login, command []byte) {
		client, server := net.Pipe()
		defer client.Close()
		served := make(chan struct{})
		go func() {
			defer close(served)
			defer server.Close()
			_ = NewMySQL().Serve(context.Background(), server, testSession())
		}()
		go func() { // reads whatever is answered
			buf := make([]byte, 4096)
			for {
				if _, err := client.Read(buf); err != nil {
					return
				}
			}
		}()
		prepare := append([]byte{myComStmtPrepare}, "select ?, ?"...)
		for i, msg := range [][]byte{login, prepare, command} {
			n := len(msg)
			packet := append([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(i & 1)}, msg...)
			if _, err := client.Write(packet); err != nil {
				break
			}
		}
		_ = client.Close()
		<-served
	})
}
