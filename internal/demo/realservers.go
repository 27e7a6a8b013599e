package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"berth/internal/simcluster/simdb"
)

// errNotInstalled says that a machine has no such server.
var errNotInstalled = errors.New("not installed")

// realServer is a database server of this machine that runs in the demo's
// folder.
type realServer struct {
	title   string // with its version
	dial    simdb.Dialer
	program *program
}

// postgresFolders are where Postgres is that is not on PATH.
var postgresFolders = []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin"}

// findPostgres returns the folder with the newest Postgres and its initdb.
func findPostgres() (string, error) {
	var dirs []string
	if path, err := look("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	for _, pattern := range postgresFolders {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		slices.SortFunc(found, func(a, b string) int { return cmp.Compare(majorIn(b), majorIn(a)) })
		dirs = append(dirs, found...)
	}
	for _, dir := range dirs {
		_, server := os.Stat(filepath.Join(dir, "postgres"))
		_, initdb := os.Stat(filepath.Join(dir, "initdb"))
		if server == nil && initdb == nil {
			return dir, nil
		}
	}
	return "", errNotInstalled
}

var digits = regexp.MustCompile(`\d+`)

// majorIn returns the first number in a path, 0 without one.
func majorIn(path string) int {
	n, _ := strconv.Atoi(digits.FindString(path)) // no number counts as zero
	return n
}

func startPostgres(ctx context.Context, parent string) (*realServer, error) {
	bin, err := findPostgres()
	if err != nil {
		return nil, err
	}
	l, err := newLab(parent, "postgres", "postgres")
	if err != nil {
		return nil, err
	}
	data := filepath.Join(l.dir, "data")
	err = l.run(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", user, "-A", "trust",
		"-E", "UTF8", "--locale=C", "--no-sync")
	if err != nil {
		return nil, err
	}
	// The database may be lost: nothing of it is kept.
	p := l.start(syscall.SIGINT, filepath.Join(bin, "postgres"), "-D", data, "-k", l.dir, "-F", "-c", "listen_addresses=")
	s := &realServer{dial: l.dialer(".s.PGSQL.5432"), program: p}
	answers := func(ctx context.Context) error {
		conn, err := connectPostgresAt(ctx, s.dial, "postgres")
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	}
	return s.ready(ctx, answers, func(ctx context.Context) error {
		version, err := fillPostgres(ctx, s.dial)
		version, _, _ = strings.Cut(version, " ") // Debian's packages add theirs
		s.title = "PostgreSQL " + version
		return err
	})
}

// ready waits until the server answers and fills it. If either fails the server
// is stopped.
func (s *realServer) ready(ctx context.Context, answers, fill func(context.Context) error) (*realServer, error) {
	err := s.program.await(ctx, answers)
	if err == nil {
		err = fill(ctx)
	}
	if err != nil {
		_ = s.program.close() // where it ended by itself err says so
		return nil, err
	}
	return s, nil
}

// mysqlPatience is for how many seconds the server waits for a login. The connections
// that berth keeps ready log in when a client comes, which takes longer than the usual ten.
const mysqlPatience = "86400"

// startMySQL starts a MariaDB, or else a MySQL.
func startMySQL(ctx context.Context, parent string) (*realServer, error) {
	server, err := look("mariadbd")
	if err != nil {
		server, err = look("mysqld")
	}
	if err != nil {
		return nil, errNotInstalled
	}
	l, err := newLab(parent, "mysql", "mysql")
	if err != nil {
		return nil, err
	}
	data := "--datadir=" + filepath.Join(l.dir, "data")
	version, err := l.command(ctx, server, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w", server, err)
	}
	title, args := "MySQL ", []string{"--mysqlx=OFF"}
	prepare := []string{server, "--no-defaults", "--initialize-insecure", data}
	if strings.Contains(string(version), "MariaDB") {
		title, args = "MariaDB ", nil
		install, err := look("mariadb-install-db")
		if err != nil {
			return nil, err
		}
		prepare = []string{install, "--no-defaults", data, "--auth-root-authentication-method=normal", "--skip-test-db"}
	}
	if err := l.run(ctx, prepare...); err != nil {
		return nil, err
	}
	p := l.start(syscall.SIGTERM, append([]string{
		server, "--no-defaults", data, "--socket=" + l.socket("mysql.sock"), "--pid-file=" + l.socket("pid"),
		"--skip-networking", "--skip-log-bin", "--innodb-flush-log-at-trx-commit=0",
		"--connect-timeout=" + mysqlPatience,
	}, args...)...)
	s := &realServer{dial: l.dialer("mysql.sock"), program: p}
	answers := func(ctx context.Context) error {
		pool, err := openMySQL("root", s.dial)
		if err != nil {
			return err
		}
		return errors.Join(pool.PingContext(ctx), pool.Close())
	}
	return s.ready(ctx, answers, func(ctx context.Context) error {
		version, err := fillMySQL(ctx, s.dial, mysqlUser...)
		version, _, _ = strings.Cut(version, "-")
		s.title = title + version
		return err
	})
}

var redisVersion = regexp.MustCompile(`v=([\d.]+)`)

func startRedis(ctx context.Context, parent string) (*realServer, error) {
	name, title := "redis-server", "Redis "
	server, err := look(name)
	if err != nil {
		title = "Valkey "
		server, err = look("valkey-server")
	}
	if err != nil {
		return nil, errNotInstalled
	}
	l, err := newLab(parent, "redis", "redis", "valkey")
	if err != nil {
		return nil, err
	}
	version, err := l.command(ctx, server, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w", server, err)
	}
	if m := redisVersion.FindSubmatch(version); m != nil {
		title += string(m[1])
	}
	p := l.start(syscall.SIGTERM, server, "--port", "0", "--unixsocket", l.socket("redis.sock"), "--unixsocketperm", "700",
		"--save", "", "--appendonly", "no", "--daemonize", "no")
	s := &realServer{title: strings.TrimSpace(title), dial: l.dialer("redis.sock"), program: p}
	answers := func(ctx context.Context) error {
		conn, err := s.dial(ctx)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return s.ready(ctx, answers, func(ctx context.Context) error { return fillRedis(ctx, s.dial) })
}
