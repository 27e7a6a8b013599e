package db

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	sqldriver "github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"berth/internal/shell"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// usual is a tunnel as most are; nasty has what needs escaping somewhere.
var (
	usual = Endpoint{Host: "127.0.0.1", Port: 15432, DBUser: "alice", DBName: "app", TunnelName: "prod-pg"}
	bare  = Endpoint{Host: "::1", Port: 15432, TunnelName: "bare"}
	nasty = Endpoint{Host: "127.0.0.1", Port: 15432, TunnelName: "prod pg",
		DBUser: `al ice@example.com/#?'"\&=;{}`, DBName: `my db/ä?x=1&y#z'"\;{}+%`}
)

func TestLookup(t *testing.T) {
	for _, p := range protocols {
		got, ok := Lookup(p.Name)
		if !ok || got.Name != p.Name {
			t.Errorf("Lookup(%q) = %v, %v", p.Name, got.Name, ok)
		}
		if !strings.HasPrefix(p.ALPN, "teleport-") || p.Title == "" {
			t.Errorf("%s: ALPN %q, title %q", p.Name, p.ALPN, p.Title)
		}
		if p.guess != nil && p.refuse == nil {
			t.Errorf("%s is recognised by a client's first words, and cannot refuse the client", p.Name)
		}
	}
	if p, ok := Lookup("dbase"); ok {
		t.Errorf("Lookup(dbase) = %v", p)
	}
	if p, _ := Lookup("mysql"); !p.serverFirst || p.NeedsDBUser || !p.Native {
		t.Errorf("mysql = %+v", p)
	}
	if p, _ := Lookup("oracle"); p.Native {
		t.Error("oracle is native")
	}
}

// TestGolden writes down everything for every protocol, to be read by a person.
func TestGolden(t *testing.T) {
	var b strings.Builder
	for _, p := range protocols {
		for _, e := range []Endpoint{usual, bare, nasty} {
			fmt.Fprintf(&b, "## %s %q %q\n", p.Name, e.DBUser, e.DBName)
			for _, f := range p.Formats() {
				s, err := p.Format(f, e)
				fmt.Fprintf(&b, "%s: %s", f, s)
				if err != nil {
					fmt.Fprintf(&b, "error: %v", err)
				}
				b.WriteString("\n")
			}
			argv, err := p.ClientCommand(e)
			if err != nil {
				fmt.Fprintf(&b, "command: error: %v\n\n", err)
				continue
			}
			fmt.Fprintf(&b, "command: %s\n\n", shell.Quote(argv...))
		}
	}
	golden := filepath.Join("testdata", "clients.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.ReplaceAll(string(want), "\r\n", "\n"), b.String()); diff != "" {
		t.Errorf("not as in %s (-want +got; rewrite with -update):\n%s", golden, diff)
	}
}

func format(t *testing.T, protocol string, f Format, e Endpoint) string {
	t.Helper()
	p, ok := Lookup(protocol)
	if !ok {
		t.Fatalf("no protocol %q", protocol)
	}
	s, err := p.Format(f, e)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPostgresRoundTrip(t *testing.T) {
	for _, f := range []Format{URL, DSN} {
		for _, e := range []Endpoint{usual, bare, nasty} {
			t.Setenv("PGUSER", "from_env") // what pgx takes for a missing name
			t.Setenv("PGDATABASE", "")
			s := format(t, "postgres", f, e)
			cfg, err := pgx.ParseConfig(s)
			if err != nil {
				t.Errorf("pgx cannot parse %q: %v", s, err)
				continue
			}
			got := Endpoint{Host: cfg.Host, Port: int(cfg.Port), DBUser: cfg.User, DBName: cfg.Database, TunnelName: e.TunnelName}
			want := e
			if want.DBUser == "" {
				want.DBUser = "from_env"
			}
			if got != want || cfg.TLSConfig != nil {
				t.Errorf("%q is read as %+v with TLS %v, want %+v without", s, got, cfg.TLSConfig != nil, want)
			}
		}
	}
}

func TestMySQLRoundTrip(t *testing.T) {
	for _, e := range []Endpoint{usual, bare, nasty} {
		s := format(t, "mysql", DSN, e)
		cfg, err := sqldriver.ParseDSN(s)
		if err != nil {
			t.Errorf("go-sql-driver cannot parse %q: %v", s, err)
			continue
		}
		if cfg.User != e.DBUser || cfg.DBName != e.DBName || cfg.Addr != e.addr() || cfg.Net != "tcp" {
			t.Errorf("%q is read as %+v", s, cfg)
		}
	}
	p, _ := Lookup("mysql")
	if s, err := p.Format(DSN, Endpoint{Host: "127.0.0.1", Port: 1, DBUser: "a:b"}); err == nil {
		t.Errorf("a user with a colon gives %q: the rest would be a password", s)
	}
}

func TestURLRoundTrip(t *testing.T) {
	for _, p := range protocols {
		if !slices.Contains(p.Formats(), URL) {
			continue
		}
		for _, e := range []Endpoint{usual, bare, nasty} {
			s := format(t, p.Name, URL, e)
			u, err := url.Parse(s)
			if err != nil {
				t.Errorf("%s: %v", p.Name, err)
				continue
			}
			if u.Hostname() != e.Host || u.Port() != e.port() {
				t.Errorf("%s: %q leads to %s", p.Name, s, u.Host)
			}
			if name := u.User.Username(); name != "" && name != e.DBUser {
				t.Errorf("%s: %q is for %q", p.Name, s, name)
			}
			db := strings.TrimPrefix(u.Path, "/") + u.Query().Get("database")
			if db != "" && db != e.DBName {
				t.Errorf("%s: %q is of database %q", p.Name, s, db)
			}
		}
	}
}

func TestUnsupported(t *testing.T) {
	tests := []struct {
		protocol string
		format   Format
		want     string
	}{
		{"redis", PGService, `Redis cannot be written as "pgservice": choose from url, jdbc, env`},
		{"mysql", "odbc", `MySQL cannot be written as "odbc": choose from url, jdbc, dsn, env, mycnf`},
		{"spanner", URL, `Spanner cannot be written as "url": choose from env`},
		{"oracle", Env, `Oracle cannot be written as "env": its clients need what tsh prints`},
	}
	for _, tt := range tests {
		p, _ := Lookup(tt.protocol)
		if _, err := p.Format(tt.format, usual); err == nil || err.Error() != tt.want {
			t.Errorf("%s as %s: %v, want %s", tt.protocol, tt.format, err, tt.want)
		}
	}
	p, _ := Lookup("spanner")
	if argv, err := p.ClientCommand(usual); err == nil {
		t.Errorf("spanner's command = %q, want an error", argv)
	}
}

func TestHostileNamesAreRefused(t *testing.T) {
	for name, e := range map[string]Endpoint{
		"newline_in_user":   {Host: "127.0.0.1", Port: 1, DBUser: "a\nsslmode=require"},
		"newline_in_db":     {Host: "127.0.0.1", Port: 1, DBName: "a\n[b]"},
		"escape_in_tunnel":  {Host: "127.0.0.1", Port: 1, TunnelName: "a\x1b[31m"},
		"no_host":           {Port: 1},
		"port_out_of_range": {Host: "127.0.0.1", Port: 70000},
	} {
		t.Run(name, func(t *testing.T) {
			for _, p := range protocols {
				for _, f := range p.Formats() {
					if s, err := p.Format(f, e); err == nil {
						t.Errorf("%s as %s: %q, want an error", p.Name, f, s)
					}
				}
				if argv, err := p.ClientCommand(e); err == nil {
					t.Errorf("%s: %q, want an error", p.Name, argv)
				}
			}
		})
	}
	p, _ := Lookup("postgres")
	if s, err := p.Format(PGService, Endpoint{Host: "127.0.0.1", Port: 1, TunnelName: "a]b"}); err == nil {
		t.Errorf("a bracket in the name gives %q", s)
	}
}

func TestEnvForShell(t *testing.T) {
	got := format(t, "postgres", Env, Endpoint{Host: "127.0.0.1", Port: 15432, DBUser: "o'hara", DBName: "my db"})
	want := `export PGHOST=127.0.0.1
export PGPORT=15432
export PGUSER='o'\''hara'
export PGDATABASE='my db'
export PGSSLMODE=disable
export PGGSSENCMODE=disable
export DATABASE_URL='postgres://o%27hara@127.0.0.1:15432/my%20db?sslmode=disable'`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestHello: what a client may say first is its protocol's, or a protocol's that
// begins alike.
func TestHello(t *testing.T) {
	answers := map[string]bool{"postgres": true, "cockroachdb": true, "mysql": true, "mariadb": true, "redis": true}
	for _, p := range protocols {
		first, _, ok := p.Hello()
		if ok != answers[p.Name] {
			t.Errorf("%s: a hello that is answered: %v", p.Name, ok)
		}
		if !ok {
			continue
		}
		if like, known := guess([]byte(first)); !known || like.ALPN != p.ALPN {
			t.Errorf("%s: %q is taken for %q", p.Name, first, like.Name)
		}
	}
}

func TestALPNHints(t *testing.T) {
	for _, tt := range []struct{ protocol, version, want string }{
		{"mysql", "8.0.18", "teleport-mysql-OC4wLjE4"},
		{"mariadb", "8.0.18", "teleport-mysql-OC4wLjE4"},
		{"mysql", "", ""},
		{"mysql", strings.Repeat("8", 200), ""}, // TLS could not carry it
		{"postgres", "16.1", ""},
	} {
		p, _ := Lookup(tt.protocol)
		if got := strings.Join(p.ALPNHints(tt.version), ","); got != tt.want {
			t.Errorf("%s %.9q: %q, want %q", tt.protocol, tt.version, got, tt.want)
		}
	}
}
