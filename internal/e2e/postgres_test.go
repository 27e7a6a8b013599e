//go:build e2e && linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// postgres is a real PostgreSQL whose clients have to show a certificate of
// the Teleport cluster.
type postgres struct {
	dir  string
	port int
	bin  string // the folder with its programs
	cred *syscall.Credential
	proc *proc
}

func newPostgres(ctx context.Context, l *laboratory, port int) (*postgres, error) {
	pg := &postgres{dir: filepath.Join(l.dir, "postgres"), port: port}
	var err error
	if pg.bin, err = postgresBin(); err != nil {
		return nil, err
	}
	if pg.cred, err = postgresUser(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(pg.dir, 0o700); err != nil {
		return nil, err
	}
	// The certificate is signed by the CA the database service trusts; what it
	// shows in turn is signed by the one in server.cas.
	if _, err := l.teleport.tctl(ctx, "", "auth", "sign", "--format=db", "--host=127.0.0.1,localhost",
		"--out="+filepath.Join(pg.dir, "server"), "--ttl=24h", "--overwrite"); err != nil {
		return nil, err
	}
	if err := pg.init(ctx); err != nil {
		return nil, err
	}
	return pg, pg.start(ctx, filepath.Join(l.dir, "postgres.log"))
}

// init makes the cluster's folder and its config, all owned by its user.
func (pg *postgres) init(ctx context.Context) error {
	if err := pg.chown(); err != nil {
		return err
	}
	data := filepath.Join(pg.dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(pg.bin, "initdb"),
		"-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "--encoding=UTF8", "--locale=C")
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: pg.cred}
	initdb.Dir = pg.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	hba := "local all all trust\nhostssl all all 127.0.0.1/32 cert\n"
	if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(hba), 0o600); err != nil {
		return err
	}
	return pg.chown()
}

func (pg *postgres) chown() error {
	if pg.cred == nil {
		return nil
	}
	return filepath.WalkDir(pg.dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, int(pg.cred.Uid), int(pg.cred.Gid))
	})
}

func (pg *postgres) start(ctx context.Context, logFile string) error {
	cmd := exec.Command(filepath.Join(pg.bin, "postgres"), "-D", filepath.Join(pg.dir, "data"),
		"-c", "listen_addresses=127.0.0.1", "-c", "port="+strconv.Itoa(pg.port),
		"-c", "unix_socket_directories="+pg.dir, "-c", "fsync=off", "-c", "max_connections=300",
		"-c", "ssl=on", "-c", "ssl_cert_file="+filepath.Join(pg.dir, "server.crt"),
		"-c", "ssl_key_file="+filepath.Join(pg.dir, "server.key"),
		"-c", "ssl_ca_file="+filepath.Join(pg.dir, "server.cas"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pg.cred}
	cmd.Dir = pg.dir
	var err error
	if pg.proc, err = startProc("postgres", logFile, cmd); err != nil {
		return err
	}
	err = until(ctx, 30*time.Second, 100*time.Millisecond, func() error {
		_, err := pg.admin(ctx, "select 1")
		return err
	})
	if err == nil {
		_, err = mustRun(ctx, environment(), "create role app login;\ncreate role reporter login;\n"+
			"create role tester login;\ncreate database appdb owner app;\n", pg.psql(), pg.adminArgs()...)
	}
	if err != nil {
		return fmt.Errorf("start postgres: %w\n%s", err, pg.proc.tail())
	}
	return nil
}

// trust lets clients in whose certificates another CA signed as well.
func (pg *postgres) trust(ctx context.Context, ca string) error {
	f, err := os.OpenFile(filepath.Join(pg.dir, "server.cas"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("\n" + ca)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	_, err = pg.admin(ctx, "select pg_reload_conf()")
	return err
}

// admin runs a statement as the superuser, past Teleport.
func (pg *postgres) admin(ctx context.Context, sql string) (string, error) {
	return mustRun(ctx, environment(), "", pg.psql(), append(pg.adminArgs(), "-c", sql)...)
}

func (pg *postgres) psql() string { return filepath.Join(pg.bin, "psql") }

func (pg *postgres) adminArgs() []string {
	return []string{"-XAtq", "-v", "ON_ERROR_STOP=1", "-h", pg.dir, "-p", strconv.Itoa(pg.port), "-U", "postgres"}
}

func (pg *postgres) stop() error {
	if pg.proc == nil {
		return nil
	}
	return pg.proc.stop(os.Interrupt, 10*time.Second) // fast shutdown
}

// postgresBin finds the folder with initdb, postgres and psql, which Debian
// keeps out of PATH.
func postgresBin() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	slices.SortFunc(found, func(a, b string) int { return major(b) - major(a) })
	if path, err := exec.LookPath("initdb"); err == nil {
		found = append(found, path)
	}
	for _, path := range found {
		dir := filepath.Dir(path)
		_, errServer := os.Stat(filepath.Join(dir, "postgres"))
		_, errClient := os.Stat(filepath.Join(dir, "psql"))
		if errServer == nil && errClient == nil {
			return dir, nil
		}
	}
	return "", errors.New("PostgreSQL is not installed (no initdb in /usr/lib/postgresql or PATH): the journeys need a real one")
}

func major(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // zero sorts last
	return n
}

// postgresUser is who runs PostgreSQL, which refuses to be run by root; nil
// means whoever runs the tests.
func postgresUser() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL cannot run as root, and there is neither a user postgres nor nobody")
}
