package db

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/internal/testneeds"
)

// TestExec starts no program: it looks at how each would be started.
func TestExec(t *testing.T) {
	e := Endpoint{Host: "127.0.0.1", Port: 15432, DBUser: "alice", DBName: "1", TunnelName: "t"}
	for _, test := range []struct {
		protocol, argv, want string
		unknown              bool
	}{
		{protocol: "postgres", argv: "psql -l", want: "psql -l"},
		{protocol: "postgres", argv: "psql-15 -l", want: "psql-15 -l"},
		{protocol: "postgres", argv: "/opt/bin/pg_dump", want: "/opt/bin/pg_dump"},
		{protocol: "cockroachdb", argv: "cockroach sql", want: "cockroach sql"},
		{protocol: "postgres", argv: "sh -c psql", want: "sh -c psql", unknown: true},
		{protocol: "redis", argv: "env", want: "env", unknown: true},
		{protocol: "elasticsearch", argv: "curl localhost:9200", want: "curl localhost:9200", unknown: true},
		{protocol: "elasticsearch", argv: "curl localhost:15432", want: "curl localhost:15432"},
		{protocol: "redis", argv: "telnet 127.0.0.1 15432", want: "telnet 127.0.0.1 15432"},
		{protocol: "redis", argv: "telnet 127.0.0.1 115432", want: "telnet 127.0.0.1 115432", unknown: true},
		{protocol: "redis", argv: "redis-cli PING", want: "redis-cli -h 127.0.0.1 -p 15432 -n 1 PING"},
		{protocol: "redis", argv: "/opt/bin/valkey-cli", want: "/opt/bin/valkey-cli -h 127.0.0.1 -p 15432 -n 1"},
		{protocol: "redis", argv: "redis-benchmark -q", want: "redis-benchmark -h 127.0.0.1 -p 15432 --dbnum 1 -q"},
		{protocol: "mongodb", argv: "mongosh --quiet", want: "mongosh mongodb://127.0.0.1:15432/1?directConnection=true --quiet"},
		{protocol: "mongodb", argv: "mongodump --archive", want: "mongodump --host=127.0.0.1 --port=15432 --archive"},
		{protocol: "sqlserver", argv: "sqlcmd -Q x", want: "sqlcmd -S tcp:127.0.0.1,15432 -U alice -P unused -d 1 -Q x"},
		{protocol: "sqlserver", argv: "bcp t out f", want: "bcp t out f -S tcp:127.0.0.1,15432 -U alice -P unused -d 1"},
		{protocol: "sqlserver", argv: "tsql", want: "tsql -H 127.0.0.1 -p 15432 -U alice -P unused -D 1"},
		{protocol: "clickhouse", argv: "clickhouse-client -q x", want: "clickhouse-client --host 127.0.0.1 --port 15432 --user alice --database 1 -q x"},
		{protocol: "clickhouse", argv: "clickhouse client -q x", want: "clickhouse client --host 127.0.0.1 --port 15432 --user alice --database 1 -q x"},
		{protocol: "cassandra", argv: "cqlsh -e x", want: "cqlsh -u alice -p unused -k 1 -e x"},
		{protocol: "snowflake", argv: "snowsql -q x", want: "snowsql -a berth -h 127.0.0.1 -p 15432 --protocol http -u alice -d 1 -q x"},
		{protocol: "dynamodb", argv: "aws dynamodb scan", want: "aws --endpoint-url http://127.0.0.1:15432 dynamodb scan"},
		{protocol: "dynamodb", argv: "aws s3 ls", want: "aws s3 ls"},
		{protocol: "spanner", argv: "spanner-cli", want: "spanner-cli"},
		{protocol: "spanner", argv: "gcloud", want: "gcloud", unknown: true},
	} {
		t.Run(test.protocol+"_"+strings.ReplaceAll(test.argv, "/", "_"), func(t *testing.T) {
			p, _ := Lookup(test.protocol)
			argv := strings.Fields(test.argv)
			c, err := p.Exec(e, argv[0], argv, nil, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Fields(test.want), c.Argv); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if c.Known == test.unknown {
				t.Errorf("known: %v", c.Known)
			}
		})
	}
}

// TestExecConfigsWithTLS: where the user's own file asks for TLS, which no argument
// takes back, the client gets another file.
func TestExecConfigsWithTLS(t *testing.T) {
	for name, test := range map[string]struct{ protocol, argv, file, text, flag string }{
		"cqlsh":     {"cassandra", "cqlsh", ".cassandra/cqlshrc", "[connection]\nhostname = prod\nSSL: True\n", "--cqlshrc="},
		"cqlsh_old": {"cassandra", "cqlsh", ".cqlshrc", "[connection]\nssl=true\n", "--cqlshrc="},
		"cqlsh_off": {"cassandra", "cqlsh", ".cassandra/cqlshrc", "[connection]\nssl = false\n; ssl = true\n", ""},
		"clickhouse": {"clickhouse", "clickhouse-client", ".clickhouse-client/config.xml", "<config>\n<secure>1</secure>\n</config>",
			"--config-file="},
		"clickhouse_tool": {"clickhouse", "clickhouse client", ".clickhouse-client/config.yaml", "secure: true\n", "--config-file="},
		"clickhouse_off":  {"clickhouse", "clickhouse-client", ".clickhouse-client/config.xml", "<config><!-- <secure>1</secure> --></config>", ""},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			file := filepath.Join(home, filepath.FromSlash(test.file))
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			p, _ := Lookup(test.protocol)
			argv := strings.Fields(test.argv)
			c, err := p.Exec(usual, argv[0], argv, []string{"HOME=" + home, "USERPROFILE=" + home}, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(c.Argv, func(arg string) bool { return strings.Contains(arg, "-file=") || strings.Contains(arg, "-cqlshrc=") })
			if test.flag == "" {
				if i >= 0 {
					t.Errorf("%q: the user's own file is not read", c.Argv)
				}
				return
			}
			if i < 0 || !strings.HasPrefix(c.Argv[i], test.flag) {
				t.Fatalf("%q, want %s", c.Argv, test.flag)
			}
			if _, err := os.Stat(strings.TrimPrefix(c.Argv[i], test.flag)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestExecRefuses: what cannot be led to the tunnel is not started.
func TestExecRefuses(t *testing.T) {
	for argv, protocol := range map[string]string{
		"dbeaver": "postgres", "datagrip": "mysql", "redisinsight": "redis", "redis-cli": "postgres", "psql": "mysql",
		"mysql": "redis", "nodetool": "cassandra", "snow": "snowflake", "sqlcmd query": "sqlserver", "clickhouse local": "clickhouse",
		"clickhouse-client": "clickhouse-http",
	} {
		p, _ := Lookup(protocol)
		words := strings.Fields(argv)
		c, err := p.Exec(usual, words[0], words, nil, t.TempDir())
		if _, ok := errors.AsType[*LeadError](err); !ok {
			t.Errorf("%s on %s: %q, %v", argv, protocol, c.Argv, err)
		}
	}
}

// TestExecEnvironment sets every variable of a protocol to something else, and
// looks that nothing of it is left.
func TestExecEnvironment(t *testing.T) {
	for _, p := range protocols {
		if p.client.env == nil {
			continue
		}
		var environ []string
		for _, kv := range must(t)(p.Env(usual)) {
			name, _, _ := strings.Cut(kv, "=")
			environ = append(environ, name+"=elsewhere")
		}
		for _, name := range slices.Concat(p.client.clear, javaURLs, javaNames) {
			if p.client.text[JDBC] == nil && slices.Contains(javaURLs, name) {
				continue // there is nothing to say instead
			}
			environ = append(environ, strings.Replace(name, "*", "_X", 1)+"=elsewhere")
		}
		c, err := p.Exec(usual, "env", []string{"env"}, append(environ, "KEPT=mine"), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(c.Env, "KEPT=mine") {
			t.Errorf("%s: what does not lead anywhere is gone", p.Name)
		}
		for _, kv := range c.Env {
			if strings.HasSuffix(kv, "=elsewhere") {
				t.Errorf("%s: %s", p.Name, kv)
			}
		}
	}
}

func must(t *testing.T) func([]string, error) []string {
	return func(list []string, err error) []string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
}

// TestExecUsualClient: it is a program that Exec leads to the tunnel.
func TestExecUsualClient(t *testing.T) {
	for _, p := range protocols {
		if p.client.command == nil {
			continue
		}
		argv := must(t)(p.UsualClient(usual))
		c, err := p.Exec(usual, argv[0], argv, nil, t.TempDir())
		if err != nil || !c.Known {
			t.Errorf("%s: %q is known: %v, %v", p.Name, argv, c.Known, err)
			continue
		}
		if n := len(slices.Compact(slices.Clone(c.Argv))); n != len(c.Argv) {
			t.Errorf("%s: %q", p.Name, c.Argv)
		}
	}
}

// TestMySQLPrograms has programs print a help like MySQL's and MariaDB's.
func TestMySQLPrograms(t *testing.T) {
	testneeds.Unix(t, "the stand-ins are shell scripts")
	p, _ := Lookup("mysql")
	const args = "--protocol=TCP -h 127.0.0.1 -P 15432 -u alice --skip-password"
	for name, test := range map[string]struct{ help, argv, want string }{
		"mysql":     {"  --ssl-mode=name    SSL connection mode.\ndns-srv-name     (No default value)\n", "-e x", args + " --ssl-mode=DISABLED -D app -e x"},
		"mariadb":   {"  --ssl     Enable SSL\n", "-e x", args + " --skip-ssl -D app -e x"},
		"mysqldump": {"  --ssl     Enable SSL\n", "--defaults-file=f --no-data db", "--defaults-file=f " + args + " --skip-ssl --no-data db"},
		"mysqladmin": {"", "--no-defaults --login-path=l --user=x ping --defaults-file=late",
			"--no-defaults --login-path=l " + args + " --user=x ping --defaults-file=late"},
		"mysql_upgrade": {"  --ssl     Enable SSL\n", "--force", args + " --skip-ssl --force"},
		"mysqlcheck":    {"dns-srv-name                      _mysql._tcp.example.com\n", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, name)
			exit := "0"
			if name == "mysql_upgrade" { // as MariaDB's does
				exit = "1"
			}
			if err := os.WriteFile(path, []byte("#!/bin/sh\ncat <<'.'\n"+test.help+".\nexit "+exit+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			c, err := p.Exec(usual, path, append([]string{name}, strings.Fields(test.argv)...), os.Environ(), dir)
			if test.want == "" {
				if lead, ok := errors.AsType[*LeadError](err); !ok || !strings.Contains(lead.Why, "_mysql._tcp.example.com") {
					t.Errorf("%q, %v", c.Argv, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Fields(name+" "+test.want), c.Argv); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
