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

	"github.com/go-sql-driver/mysql"
)

func myClient(t *testing.T, b Backend, s Session) *sql.DB {
	t.Helper()
	addr := serve(t, b, s)
	db, err := sql.Open("mysql", fmt.Sprintf("bob@tcp(%s)/app", addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestMySQLSelect(t *testing.T) {
	db := myClient(t, NewMySQL(), testSession())
	for _, tt := range []struct{ name, sql, want string }{
		{"one", "select 1", "1"},
		{"user", "select user()", "bob@localhost"},
		{"database", "select database()", "app"},
		{"comment", "select @@version_comment limit 1", "simulated MySQL"},
		{"version", "SELECT VERSION()", mysqlVersion},
		{"identity", "select * from session_identity", "serial"},
		{"sleep", "select sleep(0.01)", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rows, err := db.QueryContext(t.Context(), tt.sql)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			columns, err := rows.Columns()
			if err != nil || !rows.Next() {
				t.Fatalf("no row: %v, %v", err, rows.Err())
			}
			values := make([]any, len(columns))
			for i := range values {
				values[i] = new(string)
			}
			if err := rows.Scan(values...); err != nil {
				t.Fatal(err)
			}
			if got := *values[0].(*string); got != tt.want {
				t.Errorf("%s = %q, want %q", tt.sql, got, tt.want)
			}
		})
	}
}

func TestMySQLErrorsLeaveTheConnectionUsable(t *testing.T) {
	db := myClient(t, NewMySQL(), testSession())
	db.SetMaxOpenConns(1)
	for query, want := range map[string]string{
		"select nope()":    "does not know",
		"select * from t":  "does not know",
		"drop table users": "does not know",
		"":                 "Query was empty",
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
	if _, err := db.PrepareContext(t.Context(), "select 1"); err == nil {
		t.Error("a statement was prepared")
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

func TestMySQLRefusal(t *testing.T) {
	err := myClient(t, NewMySQL(), refuse()).PingContext(t.Context())
	var my *mysql.MySQLError
	if !errors.As(err, &my) || my.Message != "access to db denied" {
		t.Errorf("refused client got %v", err)
	}
}

// What the database service greets with is all that a client sees of it: the
// server's own version is the same.
func TestMySQLGreeting(t *testing.T) {
	for _, version := range []string{"5.7.44", ""} {
		s := testSession()
		s.ServerVersion = version
		conn, err := net.Dial("tcp", serve(t, NewMySQL(), s).String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		greeting, err := readPacket(conn)
		if got, _, _ := strings.Cut(string(greeting[5:]), "\x00"); err != nil || got != version {
			t.Errorf("greeted with %q, %v; want %q", got, err, version)
		}
		var got string
		err = myClient(t, NewMySQL(), s).QueryRowContext(t.Context(), "select version()").Scan(&got)
		if err != nil || got != mysqlVersion {
			t.Errorf("version() = %q, %v", got, err)
		}
	}
}

func TestMySQLClient(t *testing.T) {
	addr := serve(t, NewMySQL(), testSession())
	for query, want := range map[string]string{
		"select 1":                         "1",
		"select @@version_comment limit 1": "simulated MySQL",
		"select user(), database()":        "bob@localhost\tapp",
		"select * from session_identity":   "serial\t4711\nteleport_user\talice\ncluster\tsim.test\nservice\tdb\nroles\taccess,dba\nrequests\tr1\nnot_after\t2030-01-02T03:04:05Z",
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
	f.Add(login, []byte{myComInitDB, 'x'})
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
		for i, msg := range [][]byte{login, command} {
			n := len(msg)
			packet := append([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(1 - i)}, msg...)
			if _, err := client.Write(packet); err != nil {
				break
			}
		}
		_ = client.Close()
		<-served
	})
}
