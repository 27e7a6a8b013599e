package db_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"berth/internal/testneeds"
	"berth/proxies/db"
)

// namesServer is a Postgres server that refuses every client with the names that
// it has asked for.
func namesServer(conn net.Conn) {
	be := pgproto3.NewBackend(conn, conn)
	msg, err := be.ReceiveStartupMessage()
	if startup, ok := msg.(*pgproto3.StartupMessage); err == nil && ok {
		be.Send(&pgproto3.ErrorResponse{
			Severity: "FATAL", Code: "28000", Message: fmt.Sprintf("%q %q", startup.Parameters["user"], startup.Parameters["database"]),
		})
		_ = be.Flush()
	}
}

// TestPsqlNamesWithTLS: what "tunnel url --tls" prints brings awkward names through
// TLS, checked by a CA in a folder with an awkward name.
func TestPsqlNamesWithTLS(t *testing.T) {
	t.Parallel()
	psql := testneeds.Program(t, "psql")
	f := front(t, "postgres", serving(t, namesServer))
	pem, err := os.ReadFile(f.ca)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), `a b%20'x'@&=+`)
	if err := os.WriteFile(ca, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	port, _ := strconv.Atoi(f.port)
	p, _ := db.Lookup("postgres")
	for _, name := range []string{"my db", "a%20b", "me@corp.example", "o'brien", `say "hi"`, "a&b=c", "a/b?c#d", `a\b`, "äö"} {
		for _, form := range []db.Format{db.URL, db.DSN, db.PGService} {
			// libpq before 15 checks no IP addresses.
			text, err := p.Format(form, db.Endpoint{Host: "localhost", Port: port, DBUser: name, DBName: name, TunnelName: "t", CA: ca})
			if err != nil {
				t.Fatal(err)
			}
			var env []string
			if form == db.PGService {
				file := filepath.Join(t.TempDir(), "service.conf")
				if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				text, env = "service=t", []string{"PGSERVICEFILE=" + file}
			}
			cmd := exec.CommandContext(t.Context(), psql, "--no-psqlrc", text)
			cmd.Env = append(env, "HOME="+t.TempDir(), "LC_ALL=C", "PGCONNECT_TIMEOUT=10")
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), fmt.Sprintf("%q %q", name, name)) {
				t.Errorf("%q as %s: %v, %s", name, form, err, out)
			}
			if e := f.ended(t); e.Err != nil && strings.Contains(e.Err.Error(), "TLS") {
				t.Errorf("%q as %s ended with %v", name, form, e.Err)
			}
		}
	}
}
