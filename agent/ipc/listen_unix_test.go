//go:build unix

package ipc

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"berth/internal/testneeds"
)

// privateDir returns a new folder of mode 0700 with a short path.
func privateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "berth-ipc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func mustListen(t *testing.T, address string) net.Listener {
	t.Helper()
	ln, err := Listen(address)
	if err != nil {
		t.Fatalf("Listen(%q): %v", address, err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func TestListenMakesPrivateSocket(t *testing.T) {
	dir := filepath.Join(privateDir(t), "a", "run")
	old := syscall.Umask(0) // the modes must not depend on it
	defer syscall.Umask(old)
	ln := mustListen(t, filepath.Join(dir, "agent.sock"))
	for path, want := range map[string]os.FileMode{
		dir:                os.ModeDir | 0o700,
		ln.Addr().String(): os.ModeSocket | 0o600,
	} {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("mode of %s = %v, want %v", path, info.Mode(), want)
		}
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(ln.Addr().String()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close the socket is still there: %v", err)
	}
}

func TestListenReplacesStaleSocket(t *testing.T) {
	path := filepath.Join(privateDir(t), "agent.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false) // as kill -9 leaves it
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), path); !errors.Is(err, ErrNotRunning) {
		t.Fatalf("Dial of a stale socket: %v, want ErrNotRunning", err)
	}
	ln := mustListen(t, path)
	go func() {
		if conn, err := ln.Accept(); err == nil {
			_ = conn.Close()
		}
	}()
	conn, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatalf("Dial after Listen: %v", err)
	}
	_ = conn.Close()
}

func TestListenRefuses(t *testing.T) {
	tests := []struct {
		name string
		prep func(t *testing.T, dir string) // makes what is wrong with dir/run
		says string
		code Code
	}{
		{"group_may_enter", func(t *testing.T, dir string) { mkdir(t, dir+"/run", 0o750) }, "open to other users", CodeDenied},
		{"world_may_enter", func(t *testing.T, dir string) { mkdir(t, dir+"/run", 0o701) }, "open to other users", CodeDenied},
		{"folder_is_a_link", func(t *testing.T, dir string) {
			mkdir(t, dir+"/real", 0o700)
			if err := os.Symlink(dir+"/real", dir+"/run"); err != nil {
				t.Fatal(err)
			}
		}, "is not a folder", CodeDenied},
		{"file_in_its_place", func(t *testing.T, dir string) {
			mkdir(t, dir+"/run", 0o700)
			if err := os.WriteFile(dir+"/run/agent.sock", []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is not a socket", CodeExists},
		{"link_in_its_place", func(t *testing.T, dir string) {
			mkdir(t, dir+"/run", 0o700)
			if err := os.Symlink("/dev/null", dir+"/run/agent.sock"); err != nil {
				t.Fatal(err)
			}
		}, "is not a socket", CodeExists},
		{"folder_of_another_user", func(t *testing.T, dir string) {
			testneeds.Root(t, "it gives a folder away")
			mkdir(t, dir+"/run", 0o700)
			if err := os.Chown(dir+"/run", 65534, 65534); err != nil {
				t.Fatal(err)
			}
		}, "belongs to user id 65534", CodeDenied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := privateDir(t)
			tt.prep(t, dir)
			ln, err := Listen(filepath.Join(dir, "run", "agent.sock"))
			if err == nil {
				_ = ln.Close()
				t.Fatal("Listen succeeded")
			}
			var e *Error
			if !errors.As(err, &e) || e.Code != tt.code || !strings.Contains(e.Message, tt.says) || e.Hint == "" {
				t.Errorf("Listen: %#v, want code %q, %q and a hint", err, tt.code, tt.says)
			}
		})
	}
	t.Run("nothing_is_removed", func(t *testing.T) {
		dir := privateDir(t)
		mkdir(t, dir+"/run", 0o700)
		path := dir + "/run/agent.sock"
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _ = Listen(path)
		if got, err := os.ReadFile(path); err != nil || string(got) != "precious" {
			t.Errorf("the file in the socket's place: %q, %v", got, err)
		}
	})
}

func mkdir(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Mkdir(path, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // past the umask
		t.Fatal(err)
	}
}

func TestDialWithoutAgent(t *testing.T) {
	dir := privateDir(t)
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir + "/none.sock", dir + "/no/folder.sock", dir + "/file/x.sock", dir + "/file"} {
		if _, err := Dial(context.Background(), path); !errors.Is(err, ErrNotRunning) {
			t.Errorf("Dial(%q) = %v, want ErrNotRunning", path, err)
		}
	}
}
