package db

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"berth/internal/testneeds"
)

// startups accepts Postgres clients, refuses them politely, and returns what
// each asked for. What a client would encrypt first, it asks for as "encrypt".
func startups(t *testing.T) (port int, asked <-chan map[string]string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan map[string]string, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			be := pgproto3.NewBackend(c, c)
			params := map[string]string{"encrypt": ""}
			if msg, err := be.ReceiveStartupMessage(); err == nil {
				if startup, ok := msg.(*pgproto3.StartupMessage); ok {
					params = startup.Parameters
				}
				be.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "go away"})
				_ = be.Flush()
			}
			ch <- params
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).Port, ch
}

func TestRealPsql(t *testing.T) {
	t.Parallel()
	psql := testneeds.Program(t, "psql")
	p, _ := Lookup("postgres")
	for _, e := range []Endpoint{usual, nasty} {
		port, asked := startups(t)
		e.Port = port
		runs := map[string]func(*exec.Cmd){}
		for _, f := range []Format{URL, DSN} {
			runs[string(f)] = func(cmd *exec.Cmd) { cmd.Args = append(cmd.Args, format(t, "postgres", f, e)) }
		}
		runs["env"] = func(cmd *exec.Cmd) {
			vars, err := p.Env(e)
			if err != nil {
				t.Fatal(err)
			}
			cmd.Env = append(cmd.Env, vars...)
		}
		runs["pgservice"] = func(cmd *exec.Cmd) {
			file := filepath.Join(t.TempDir(), "service.conf")
			if err := os.WriteFile(file, []byte(format(t, "postgres", PGService, e)+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd.Env = append(cmd.Env, "PGSERVICEFILE="+file, "PGSERVICE="+e.TunnelName)
		}
		runs["command"] = func(cmd *exec.Cmd) {
			argv, err := p.ClientCommand(e)
			if err != nil {
				t.Fatal(err)
			}
			cmd.Args = append(cmd.Args, argv[1:]...)
		}
		for name, prepare := range runs {
			t.Run(name+"_"+e.TunnelName, func(t *testing.T) {
				cmd := exec.CommandContext(t.Context(), psql, "--no-psqlrc")
				cmd.Env = []string{"HOME=" + t.TempDir(), "LC_ALL=C"}
				prepare(cmd)
				out, err := cmd.CombinedOutput()
				if err == nil || !strings.Contains(string(out), "go away") {
					t.Fatalf("psql: %v: %s", err, out)
				}
				got := <-asked
				if got["user"] != e.DBUser || got["database"] != e.DBName {
					t.Errorf("psql asks for %v, want %q as %q", got, e.DBName, e.DBUser)
				}
			})
		}
	}
}

func TestRealOptionFile(t *testing.T) {
	reader := testneeds.Program(t, "my_print_defaults")
	for _, e := range []Endpoint{usual, nasty} {
		file := filepath.Join(t.TempDir(), "my.cnf")
		if err := os.WriteFile(file, []byte(format(t, "mysql", MyCnf, e)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), reader, "--defaults-file="+file, "client", "mysql").Output()
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"--protocol=TCP", "--host=127.0.0.1", "--port=15432",
			"--user=" + e.DBUser, "--password=", "--database=" + e.DBName}
		if diff := cmp.Diff(want, strings.Split(strings.TrimSpace(string(out)), "\n")); diff != "" {
			t.Errorf("MySQL reads (-want +got):\n%s", diff)
		}
	}
}
