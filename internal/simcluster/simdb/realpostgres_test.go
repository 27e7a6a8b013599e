//go:build unix

package simdb

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"berth/internal/testwait"
)

// postgresBinary finds a program that comes with a PostgreSQL server.
func postgresBinary(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("%s is not installed: install a PostgreSQL server to run this test", name)
	}
	return found[len(found)-1]
}

// unprivileged makes cmd run as the user postgres when the test is root's, for
// PostgreSQL does not run as root. It returns the uid and gid to own files.
func unprivileged(t *testing.T) (cred *syscall.Credential) {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// startPostgres starts a real PostgreSQL with TLS and trust, and returns its
// address and the CA of its cert.
func startPostgres(t *testing.T) (string, *x509.CertPool) {
	t.Helper()
	initdb, server := postgresBinary(t, "initdb"), postgresBinary(t, "postgres")
	cred := unprivileged(t)
	dir, err := os.MkdirTemp("", "simdb-pg-") // a test's own folder is not open to another user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	data := filepath.Join(dir, "data")
	own := func(path string) {
		if cred == nil {
			return
		}
		if err := os.Chown(path, int(cred.Uid), int(cred.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	own(dir)
	command := func(path string, args ...string) *exec.Cmd {
		cmd := exec.Command(path, args...)
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
		return cmd
	}
	if out, err := command(initdb, "-D", data, "-A", "trust", "-U", "bob", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	roots := writeServerCert(t, dir, own)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().(*net.TCPAddr)
	_ = ln.Close()
	cmd := command(server, "-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(addr.Port), "-k", dir, "-F",
		"-c", "ssl=on", "-c", "ssl_cert_file="+filepath.Join(dir, "pg.crt"), "-c", "ssl_key_file="+filepath.Join(dir, "pg.key"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait()
	})
	testwait.Eventually(t, "PostgreSQL to answer", func() bool {
		conn, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://bob@%s/postgres?sslmode=disable", addr))
		if err == nil {
			_ = conn.Close(t.Context())
		}
		return err == nil
	})
	return addr.String(), roots
}

func writeServerCert(t *testing.T, dir string, own func(string)) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"pg"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"pg.crt": {Type: "CERTIFICATE", Bytes: der}, "pg.key": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		own(path)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return roots
}

func TestForwardToARealPostgres(t *testing.T) {
	backing, roots := startPostgres(t)
	for name, b := range map[string]Backend{
		"plain": ForwardPostgres{Addr: backing},
		"tls":   ForwardPostgres{Addr: backing, TLS: &tls.Config{RootCAs: roots, ServerName: "pg"}},
		"bytes": Forward{Addr: backing},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://bob@%s/postgres?sslmode=disable", serve(t, b, testSession())))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			var encrypted bool
			var n int
			if err := conn.QueryRow(t.Context(), "select ssl from pg_stat_ssl where pid = pg_backend_pid()").Scan(&encrypted); err != nil || encrypted != (name == "tls") {
				t.Errorf("upstream TLS %v, %v", encrypted, err)
			}
			if err := conn.QueryRow(t.Context(), "select sum(i)::int from generate_series(1, $1::int) i", 1000).Scan(&n); err != nil || n != 500500 {
				t.Errorf("sum = %d, %v", n, err)
			}
		})
	}
}
