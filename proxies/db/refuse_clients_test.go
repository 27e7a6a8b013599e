package db

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	sqldriver "github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"berth/internal/testneeds"
	"berth/internal/testwait"
	"berth/proxies"
)

// refusing runs a tunnel that refuses every client, and returns its address.
func refusing(t *testing.T, protocol string, r Refusal) string {
	t.Helper()
	p, ok := Lookup(protocol)
	if !ok {
		t.Fatalf("no protocol %q", protocol)
	}
	tunnel := proxies.New(proxies.Config{
		Name:   "test",
		Hosts:  []string{"127.0.0.1"},
		Source: func(context.Context) (proxies.Dial, error) { return nil, errors.New("no one is logged in") },
		Refuse: func(c net.Conn, _ error) {
			if err := p.Refuse(c, r); err != nil {
				t.Log(err)
			}
		},
	})
	if err := tunnel.Bind(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tunnel.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return tunnel.Status().Addresses[0]
}

func TestRefusePgx(t *testing.T) {
	want := map[RefusalKind]string{
		RefusalOther: "57P03", RefusalLogin: "57P03", RefusalHoldEnded: "08004", RefusalUnreachable: "57P03",
		RefusalDenied: "28000", RefusalMFA: "28000", RefusalUnknown: "3D000",
	}
	for kind, name := range kinds {
		t.Run(name, func(t *testing.T) {
			r := waiting
			r.Kind = kind
			for _, mode := range []string{"disable", "prefer"} {
				addr := refusing(t, "postgres", r)
				_, err := pgx.Connect(t.Context(), "postgres://alice@"+addr+"/app?sslmode="+mode)
				var pg *pgconn.PgError
				if !errors.As(err, &pg) {
					t.Fatalf("%s: %v is not from the server", mode, err)
				}
				got := [...]string{pg.Severity, pg.Code, pg.Message, pg.Detail, pg.Hint}
				if got != [...]string{"FATAL", want[kind], r.Title, r.Text, r.Hint} {
					t.Errorf("%s: %q", mode, got)
				}
			}
		})
	}
}

func TestRefuseMySQLDriver(t *testing.T) {
	want := map[RefusalKind]uint16{
		RefusalOther: 3032, RefusalLogin: 3032, RefusalHoldEnded: 3032, RefusalUnreachable: 3032,
		RefusalDenied: 1045, RefusalMFA: 1045, RefusalUnknown: 1049,
	}
	for kind, name := range kinds {
		t.Run(name, func(t *testing.T) {
			r := waiting
			r.Kind = kind
			pool, err := sql.Open("mysql", "alice@tcp("+refusing(t, "mysql", r)+")/app")
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			var my *sqldriver.MySQLError
			if err := pool.PingContext(t.Context()); !errors.As(err, &my) {
				t.Fatalf("%v is not from the server", err)
			}
			if my.Number != want[kind] || my.Message != "berth: "+r.line(500) {
				t.Errorf("%d %q", my.Number, my.Message)
			}
		})
	}
}

// TestRefuseMySQLLength checks that the command to type survives a long text.
func TestRefuseMySQLLength(t *testing.T) {
	r := waiting
	r.Text = strings.Repeat("why ", 500)
	heard, err := refuseSaid(t, "mysql", strings.NewReader(""), r)
	if err != nil || len(heard) > 4+3+mysqlTextMax || !strings.HasSuffix(heard, "… Hint: "+r.Hint) {
		t.Errorf("%d bytes, %v: %q", len(heard), err, heard)
	}
}

// TestRefuseRedisSetUp checks that a library that asks one thing at a time gets
// as far as the user's own command, and then no further.
func TestRefuseRedisSetUp(t *testing.T) {
	addr := refusing(t, "redis", waiting)
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testwait.Patience))
	in := bufio.NewReader(c)
	for _, command := range []string{"HELLO 3", "client setname x", "AUTH x", "SELECT 1", "GET x"} {
		if _, err := io.WriteString(c, command+"\r\n"); err != nil {
			t.Fatal(err)
		}
		if answer, err := in.ReadString('\n'); err != nil || answer != "-ERR "+waiting.wholeLine()+"\r\n" {
			t.Fatalf("%s: %q, %v", command, answer, err)
		}
	}
	began := time.Now()
	if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
		t.Errorf("then %q, %v, want the end", rest, err)
	}
	testwait.Soon(t, "the end", time.Since(began), time.Second)
}

// TestRefuseUpload checks that a client that is still sending reads the answer.
func TestRefuseUpload(t *testing.T) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	url := "http://" + refusing(t, "opensearch", waiting) + "/_bulk"
	resp, err := client.Post(url, "application/x-ndjson", strings.NewReader(strings.Repeat("{}\n", 100_000)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), waiting.Hint) {
		t.Errorf("%s: %s, %v", resp.Status, body, err)
	}
}

// TestRefuseRealClients keeps what people get to read.
func TestRefuseRealClients(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, program, protocol string
		args                    []string // HOST and PORT stand for the tunnel's
	}{
		{"psql", "psql", "postgres",
			[]string{"-X", "host=HOST port=PORT user=alice dbname=app", "-c", "select 1"}},
		{"psql_two_addresses", "psql", "postgres",
			[]string{"-X", "host=HOST,HOST port=PORT user=alice", "-c", "select 1"}},
		{"psql_sslmode_allow", "psql", "cockroachdb",
			[]string{"-X", "host=HOST port=PORT user=alice sslmode=allow", "-c", "select 1"}},
		{"pg_isready", "pg_isready", "postgres",
			[]string{"-h", "HOST", "-p", "PORT"}},
		{"mysql", "mysql", "mysql",
			[]string{"--no-defaults", "-h", "HOST", "-P", "PORT", "-u", "alice", "-e", "select 1"}},
		{"mysql_skip_ssl", "mysql", "mysql",
			[]string{"--no-defaults", "--skip-ssl", "-h", "HOST", "-P", "PORT", "-u", "alice", "-e", "select 1"}},
		{"redis-cli", "redis-cli", "redis",
			[]string{"-e", "-h", "HOST", "-p", "PORT", "get", "x"}},
		{"redis-cli_hello_auth_select", "redis-cli", "redis",
			[]string{"-e", "-h", "HOST", "-p", "PORT", "-3", "--no-auth-warning", "-a", "x", "-n", "2", "get", "x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := testneeds.Program(t, tt.program)
			host, port, err := net.SplitHostPort(refusing(t, tt.protocol, waiting))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), testwait.Patience)
			defer cancel()
			env := []string{"HOME=" + t.TempDir(), "LC_ALL=C.UTF-8"}
			args := slices.Clone(tt.args)
			for i, arg := range args {
				args[i] = strings.NewReplacer("HOST", host, "PORT", port).Replace(arg)
			}
			cmd := exec.CommandContext(ctx, path, args...)
			cmd.Env = env
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Errorf("%s succeeds: %s", tt.program, out)
			}
			version := exec.CommandContext(ctx, path, "--version")
			version.Env = env
			v, err := version.Output()
			if err != nil {
				t.Fatal(err)
			}
			v = []byte(strings.TrimPrefix(string(v), filepath.Dir(path)+"/"))
			got := fmt.Sprintf("%s%s%v\n", v, strings.ReplaceAll(string(out), port, "PORT"), cmd.ProcessState)
			sameAsBefore(t, tt.name, got)
		})
	}
}

// sameAsBefore compares what a program printed with what is kept. Another
// version of the program may put it another way, but must name all the same.
func sameAsBefore(t *testing.T, name, got string) {
	t.Helper()
	version, printed, _ := strings.Cut(got, "\n")
	if name != "pg_isready" {
		for _, text := range []string{waiting.Title, waiting.Text, waiting.Hint} {
			if !strings.Contains(printed, text) {
				t.Errorf("%q is not in %s", text, printed)
			}
		}
	}
	path := filepath.Join("testdata", "refused_"+name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, keptPrinted, _ := strings.Cut(string(want), "\n")
	diff := cmp.Diff(keptPrinted, printed)
	if diff != "" && version == before {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	} else if diff != "" {
		t.Logf("%s is of %s, this is %s:\n%s", path, before, version, diff)
	}
}
