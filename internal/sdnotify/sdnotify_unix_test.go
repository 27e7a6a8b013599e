//go:build unix

package sdnotify

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := At("").Send("READY=1"); err != nil {
		t.Errorf("no manager: %v", err)
	}
	if err := At(path + "none").Send("READY=1"); err == nil {
		t.Error("a manager that is gone heard it")
	}
	if err := At(path).Send("READY=1", "STATUS=Ports bound"); err != nil {
		t.Error(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	if err := At(path).Store("tcp4-1", tcp.(*net.TCPListener)); err != nil {
		t.Error(err)
	}
	if err := At(path).Forget("tcp4-1"); err != nil {
		t.Error(err)
	}
	_ = l.SetReadDeadline(time.Now().Add(10 * time.Second))
	for _, want := range []string{
		"READY=1\nSTATUS=Ports bound", "FDSTORE=1\nFDNAME=tcp4-1", "FDSTOREREMOVE=1\nFDNAME=tcp4-1",
	} {
		buf, rights := make([]byte, 200), make([]byte, 100)
		n, oobn, _, _, err := l.ReadMsgUnix(buf, rights)
		if got := string(buf[:max(n, 0)]); err != nil || got != want {
			t.Fatalf("the manager reads %q, %v, want %q", got, err, want)
		}
		if want[:8] != "FDSTORE=" {
			continue
		}
		messages, err := unix.ParseSocketControlMessage(rights[:oobn])
		if err != nil || len(messages) != 1 {
			t.Fatalf("%d control messages, %v", len(messages), err)
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			t.Fatalf("%d descriptors, %v", len(fds), err)
		}
		_ = unix.Close(fds[0])
	}
}

// TestWatch: a sign of life is given while the program is well, and a successor is
// asked for one too.
func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "40000")
	t.Setenv("WATCHDOG_PID", "1") // another process is watched
	if env := FromEnv().Env(); len(env) != 1 || os.Getenv("WATCHDOG_USEC") != "" {
		t.Errorf("a process that is not watched passes on %q", env)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "40000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	m := FromEnv()
	if env := m.Env(); !slices.Equal(env, []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=40000"}) {
		t.Errorf("a successor gets %q", env)
	}
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	m.Watch(ctx, func() error { // returns when ctx ends
		switch asked++; asked {
		case 2:
			return errors.New("stuck")
		case 4:
			cancel()
		}
		return nil
	})
	_ = l.SetReadDeadline(time.Now().Add(10 * time.Second))
	for range 3 { // the second time it was stuck
		buf := make([]byte, 100)
		n, _, err := l.ReadFrom(buf)
		if err != nil || string(buf[:n]) != "WATCHDOG=1" {
			t.Fatalf("the manager reads %q, %v", buf[:max(n, 0)], err)
		}
	}
	_ = l.SetReadDeadline(time.Now())
	if n, _, err := l.ReadFrom(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes more", n)
	}
}
