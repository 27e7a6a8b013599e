package guard

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// TestMain is the program of another user as well: it connects and waits.
func TestMain(m *testing.M) {
	if addr := os.Getenv("BERTH_TEST_KNOCK"); addr != "" {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			os.Exit(2)
		}
		_, _ = conn.Read(make([]byte, 1))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	testneeds.Here(t, "to listen on "+addr, err)
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func dial(t testing.TB, ln net.Listener) (client, accepted net.Conn) {
	t.Helper()
	client, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(); _ = accepted.Close() })
	return client, accepted
}

func TestOwnClient(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			_, accepted := dial(t, listen(t, addr))
			var g Guard
			for range 3 {
				if err := g.Check(accepted); err != nil {
					t.Errorf("my own client: %v", err)
				}
			}
		})
	}
}

// TestDualStack: an IPv4 client of an IPv6 socket.
func TestDualStack(t *testing.T) {
	ln := listen(t, "[::]:0")
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	client, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", "127.0.0.1:"+port)
	testneeds.Here(t, "a dual stack", err)
	defer client.Close()
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if err := new(Guard).Check(accepted); err != nil {
		t.Errorf("my own client: %v", err)
	}
}

// TestGoneClient: a client that has hung up has no owner, not even root.
func TestGoneClient(t *testing.T) {
	client, accepted := dial(t, listen(t, "127.0.0.1:0"))
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if !testwait.Until(func() bool { err = new(Guard).Check(accepted); return errors.Is(err, ErrUnknown) }) { // when the kernel has noticed
		t.Errorf("a client that is gone: %v, want ErrUnknown", err)
	}
}

func TestForeignClient(t *testing.T) {
	testneeds.Root(t, "it is another user for a moment")
	const nobody = 65534
	ln := listen(t, "127.0.0.1:0")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copied := t.TempDir() + "/knock"
	raw, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, raw, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := copied; dir != "/"; dir = dir[:max(1, strings.LastIndexByte(dir, '/'))] {
		if info, err := os.Stat(dir); err == nil && strings.HasPrefix(dir, os.TempDir()+"/") {
			if err := os.Chmod(dir, info.Mode()|0o111); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), copied)
	cmd.Env = []string{"BERTH_TEST_KNOCK=" + ln.Addr().String()}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	err = new(Guard).Check(accepted)
	var foreign *ForeignError
	if !errors.As(err, &foreign) || foreign.UID != strconv.Itoa(nobody) {
		t.Errorf("a client of uid %d: %v", nobody, err)
	}
	if err := errors.Join(accepted.Close(), cmd.Wait()); err != nil {
		t.Error(err)
	}
}

func TestManyAtOnce(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	var g Guard
	done := make(chan error, 200)
	for range cap(done) {
		_, accepted := dial(t, ln)
		go func() { done <- g.Check(accepted) }()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkCheck is the cost of a connection's check, with 5,000 other sockets
// open: it must stay below 200 µs.
func BenchmarkCheck(b *testing.B) {
	ln := listen(b, "127.0.0.1:0")
	for range 2500 {
		dial(b, ln)
	}
	_, accepted := dial(b, ln)
	var g Guard
	for b.Loop() {
		if err := g.Check(accepted); err != nil {
			b.Fatal(err)
		}
	}
}
