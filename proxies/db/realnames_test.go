package db

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	sqldriver "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"

	"berth/internal/testneeds"
	"berth/proxies/kube"
)

// awkward are names that people have and that some driver reads otherwise.
var awkward = []string{
	"my db", "a%20b", "100%", "me@corp.example", "o'brien", `say "hi"`, "a&b=c", "a+b", "a?b", "a#b", "a/b", `a\b`,
	"a;b,c:d", "{x}", "äö", " front", "back ", "a\u00a0b", "a=b", "a|b^c`d<e>",
}

// names is a user and a database.
type names struct{ user, db string }

// holds checks that a driver reads the names that went into a format, or that
// the format refuses just those in refused; read is handed what Format made.
func holds(t *testing.T, protocol string, f Format, refused []string, read func(t *testing.T, texts []string) []names) {
	t.Helper()
	holdsWith(t, "", protocol, f, refused, read)
}

// awkwardCA returns the file of a CA in a folder whose name is awkward as well.
func awkwardCA(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), `a b%20'x'@&=+é`)
	ca, err := (kube.CAStore{File: kube.FileStore(filepath.Join(dir, "key.pem"))}).Make(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(file, ca.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// holdsWith is holds for what leads to TLS by that CA; none if it is "".
func holdsWith(t *testing.T, ca, protocol string, f Format, refused []string, read func(t *testing.T, texts []string) []names) {
	t.Helper()
	p, _ := Lookup(protocol)
	var texts []string
	var want []names
	for i, name := range awkward {
		n := names{name, awkward[(i+7)%len(awkward)]}
		text, err := p.Format(f, Endpoint{Host: "127.0.0.1", Port: 15432, DBUser: n.user, DBName: n.db, TunnelName: "t", CA: ca})
		switch {
		case slices.Contains(refused, n.user) || slices.Contains(refused, "/"+n.db):
			if err == nil || !strings.Contains(err.Error(), "choose from ") {
				t.Errorf("%s as %s: %q of %q: %q, %v; want a refusal that says what else can", protocol, f, n.user, n.db, text, err)
			}
		case err != nil:
			t.Errorf("%s as %s: %v", protocol, f, err)
		default:
			texts, want = append(texts, text), append(want, n)
		}
	}
	for i, got := range read(t, texts) {
		if got != want[i] {
			t.Errorf("%s as %s: %s is read as %q, want %q", protocol, f, texts[i], got, want[i])
		}
	}
}

// filter has a program read a text a line, and returns the fields that it
// prints for each.
func filter(t *testing.T, texts []string, argv ...string) []names {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(strings.Join(texts, "\n") + "\n")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if err != nil || len(lines) != len(texts) {
		t.Fatalf("%s: %v, %d lines for %d\n%s", argv[0], err, len(lines), len(texts), &stderr)
	}
	all := make([]names, len(lines))
	for i, line := range lines {
		all[i].user, all[i].db, _ = strings.Cut(line, "\t")
	}
	return all
}

func TestGoDriversReadNames(t *testing.T) {
	ca := awkwardCA(t)
	for _, ca := range []string{"", ca} {
		goDriversReadNames(t, ca)
	}
}

func goDriversReadNames(t *testing.T, ca string) {
	for _, f := range []Format{URL, DSN} {
		holdsWith(t, ca, "postgres", f, nil, func(t *testing.T, texts []string) (all []names) {
			for _, text := range texts {
				cfg, err := pgx.ParseConfig(text)
				if err != nil {
					t.Fatal(err)
				}
				if (cfg.TLSConfig != nil) != (ca != "") {
					t.Errorf("%s: TLS is %v", text, cfg.TLSConfig != nil)
				}
				all = append(all, names{cfg.User, cfg.Database})
			}
			return all
		})
	}
	holdsWith(t, ca, "mysql", DSN, []string{"a;b,c:d"}, func(t *testing.T, texts []string) (all []names) {
		for _, text := range texts {
			cfg, err := sqldriver.ParseDSN(text)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, names{cfg.User, cfg.DBName})
		}
		return all
	})
}

func TestPsqlReadsNames(t *testing.T) {
	t.Parallel()
	psql := testneeds.Program(t, "psql")
	port, asked := startups(t)
	run := func(t *testing.T, env []string, args ...string) names {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), psql, append([]string{"--no-psqlrc"}, args...)...)
		cmd.Env = append([]string{"HOME=" + t.TempDir(), "LC_ALL=C"}, env...)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "go away") {
			t.Fatalf("psql: %v: %s", err, out)
		}
		got := <-asked
		return names{got["user"], got["database"]}
	}
	here := func(text string) string {
		return strings.ReplaceAll(text, "15432", Endpoint{Port: port}.port())
	}
	for _, f := range []Format{URL, DSN} {
		holds(t, "postgres", f, nil, func(t *testing.T, texts []string) (all []names) {
			for _, text := range texts {
				all = append(all, run(t, nil, here(text)))
			}
			return all
		})
	}
	edges := []string{" front", "back ", "/ front", "/back "}
	holds(t, "postgres", PGService, edges, func(t *testing.T, texts []string) (all []names) {
		for _, text := range texts {
			file := filepath.Join(t.TempDir(), "service.conf")
			if err := os.WriteFile(file, []byte(here(text)+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			all = append(all, run(t, []string{"PGSERVICEFILE=" + file, "PGSERVICE=t"}))
		}
		return all
	})
}

func TestOptionFileReadsNames(t *testing.T) {
	reader, ca := testneeds.Program(t, "my_print_defaults"), awkwardCA(t)
	read := func(t *testing.T, texts []string) (all []names) {
		for _, text := range texts {
			file := filepath.Join(t.TempDir(), "my.cnf")
			if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), reader, "--defaults-file="+file, "client", "mysql").Output()
			if err != nil {
				t.Fatal(err)
			}
			user, db, _ := strings.Cut(strings.TrimSuffix(string(out), "\n"), "\n--database=")
			user, tls, _ := strings.Cut(user, "\n--password=")
			if strings.Contains(text, "ssl-ca") && tls != "\n--ssl-ca="+ca {
				t.Errorf("the CA is read as %q, want %q", tls, ca)
			}
			_, user, _ = strings.Cut(user, "--user=")
			all = append(all, names{user, db})
		}
		return all
	}
	holds(t, "mysql", MyCnf, nil, read)
	holdsWith(t, ca, "mysql", MyCnf, nil, read)
}

// javaReader prints what the drivers find in JDBC URLs, without a connection.
const javaReader = `
public class Reader {
	public static void main(String[] args) throws Exception {
		java.io.BufferedReader in = new java.io.BufferedReader(new java.io.InputStreamReader(System.in, "UTF-8"));
		java.io.PrintStream out = new java.io.PrintStream(System.out, true, "UTF-8");
		for (String url; (url = in.readLine()) != null; ) {
			if (url.startsWith("jdbc:postgresql:")) {
				java.util.Properties p = org.postgresql.Driver.parseURL(url, new java.util.Properties());
				out.println(p.getProperty("user") + "\t" + p.getProperty("PGDBNAME"));
			} else {
				org.mariadb.jdbc.UrlParser p = org.mariadb.jdbc.UrlParser.parse(url);
				out.println(p.getUsername() + "\t" + p.getDatabase());
			}
		}
	}
}`

func TestJDBCDriversReadNames(t *testing.T) {
	t.Parallel()
	jars := []string{"/usr/share/java/postgresql.jar", "/usr/share/java/mariadb-java-client.jar"}
	_, noJava := exec.LookPath("javac")
	_, noPG := os.Stat(jars[0])
	_, noMaria := os.Stat(jars[1])
	if err := errors.Join(noJava, noPG, noMaria); errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		testneeds.Skip(t, "JDBC drivers", "install default-jdk-headless, libpostgresql-jdbc-java and libmariadb-java")
	}
	source := filepath.Join(t.TempDir(), "Reader.java")
	if err := os.WriteFile(source, []byte(javaReader), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(t *testing.T, texts []string) []names {
		return filter(t, texts, "java", "-cp", strings.Join(jars, ":"), source)
	}
	for _, ca := range []string{"", "/home/a b/ca.pem"} {
		holdsWith(t, ca, "postgres", JDBC, nil, read)
		holdsWith(t, ca, "mariadb", JDBC, []string{"a&b=c", "/a?b"}, read)
	}
	// MariaDB's driver takes MySQL's URLs, and reads what needs no escape.
	holds(t, "mysql", JDBC, []string{"/ front", "/back "}, func(t *testing.T, texts []string) []names {
		got := read(t, texts)
		for i, text := range texts {
			if strings.Contains(text, "%") { // for MySQL's own driver, which Debian does not have
				want, _ := parseConnectorJ(text)
				got[i] = want
			}
		}
		return got
	})
}

// parseConnectorJ reads a URL as MySQL's driver does, according to its
// documentation: "any reserved characters must be percent encoded".
func parseConnectorJ(s string) (names, error) {
	rest := strings.TrimPrefix(s, "jdbc:mysql://127.0.0.1:15432/")
	db, query, _ := strings.Cut(rest, "?")
	user, _, _ := strings.Cut(strings.TrimPrefix(query, "user="), "&")
	var n names
	var err, err2 error
	n.user, err = url.PathUnescape(user)
	n.db, err2 = url.PathUnescape(strings.ReplaceAll(db, "+", " "))
	return n, errors.Join(err, err2)
}

func TestNodeDriversReadNames(t *testing.T) {
	node, err := exec.LookPath("node")
	if err == nil {
		err = exec.CommandContext(t.Context(), node, "-e", "require('pg-connection-string'), require('mysql2')").Run()
	}
	testneeds.Here(t, "Node with pg and mysql2, npm install'ed into a folder that NODE_PATH names", err)
	script := `
for (const url of require("fs").readFileSync(0, "utf8").trimEnd().split("\n")) {
	const c = url.startsWith("postgres")
		? require("pg-connection-string").parse(url)
		: require("mysql2").createPool(url).config.connectionConfig
	console.log(c.user + "\t" + c.database)
}
process.exit(0)`
	ca := awkwardCA(t)
	for _, with := range [][2]string{{"postgres", ""}, {"postgres", ca}, {"mysql", ""}} {
		protocol := with[0]
		holdsWith(t, with[1], protocol, URL, nil, func(t *testing.T, texts []string) []names {
			got := filter(t, texts, node, "-e", script)
			for i := range got {
				if protocol == "postgres" { // pg decodes a database's name in part only
					got[i].db = strings.NewReplacer("%2F", "/", "%3F", "?", "%23", "#").Replace(got[i].db)
				}
			}
			return got
		})
	}
}
