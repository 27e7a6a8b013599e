//go:build unix

package ipc

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"berth/internal/testneeds"
)

// lockedBuffer is a log many goroutines write.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestForeignUserIsRefused takes the folder's protection away, so that the
// peer check alone stands between another user and the agent.
func TestForeignUserIsRefused(t *testing.T) {
	testneeds.Root(t, "it starts a process of another user")
	dir := privateDir(t)
	address := filepath.Join(dir, "agent.sock")
	ln := mustListen(t, address)
	for path, mode := range map[string]os.FileMode{dir: 0o755, address: 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	var logged lockedBuffer
	b := newFakeBackend()
	srv := NewServer(ServerConfig{Backend: b.all(), Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx, ln) }()

	// The test binary lies where only root can read it.
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "dialer")
	if err := os.WriteFile(copied, program, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), copied)
	cmd.Dir = "/"
	cmd.Env = []string{dialerEnv + "=" + address}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("dialer: %v: %s", err, out)
	}
	if want := "read 0 bytes, ended: true\ndial: denied\n"; string(out) != want {
		t.Errorf("a foreign user met %q, want %q", out, want)
	}
	if !strings.Contains(logged.String(), "peer_uid=65534") {
		t.Errorf("the refusal was not logged: %s", logged.String())
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}
