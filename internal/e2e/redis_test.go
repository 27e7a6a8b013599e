//go:build e2e && linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"berth/internal/testneeds"
)

// startRedis starts a real Redis whose clients have to show a certificate of the
// Teleport cluster, has Teleport offer it as name, and ends it with the test.
func startRedis(t *testing.T, name string) {
	t.Helper()
	server, dir := testneeds.Program(t, "redis-server"), filepath.Join(lab.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := lab.teleport.tctl(t.Context(), "", "auth", "sign", "--format=redis", "--host=127.0.0.1,localhost",
		"--out="+filepath.Join(dir, "server"), "--ttl=24h", "--overwrite"); err != nil {
		t.Fatal(err)
	}
	port := mustFreePort(t)
	cmd := exec.Command(server, "--port", "0", "--tls-port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "",
		"--tls-cert-file", filepath.Join(dir, "server.crt"), "--tls-key-file", filepath.Join(dir, "server.key"),
		"--tls-ca-cert-file", filepath.Join(dir, "server.cas"))
	proc, err := startProc("redis-server", filepath.Join(lab.dir, name+".log"), cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proc.stop(syscall.SIGTERM, 15*time.Second); err != nil {
			t.Error(err)
		}
	})
	offer(t, name, "redis", fmt.Sprintf("rediss://127.0.0.1:%d", port))
}
