package tsh

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/internal/testwait"
)

func TestEnvironment(t *testing.T) {
	in := []string{
		"PATH=/bin", "HOME=/home/alice", "TELEPORT_HOME=/wrong", "TELEPORT_PROXY=evil:443",
		"teleport_user=bob", "Teleport_Debug=1", "TELEPORT_LOGIN_BROWSER=firefox", "HTTPS_PROXY=http://p:3128",
		"NO_PROXY=localhost", "SSL_CERT_FILE=/ca.pem", "TELEPORTX=stays", "TELEPORT_", "EMPTY=", "KUBECONFIG=/home/alice/k",
	}
	want := []string{
		"PATH=/bin", "HOME=/home/alice", "HTTPS_PROXY=http://p:3128", "NO_PROXY=localhost",
		"SSL_CERT_FILE=/ca.pem", "TELEPORTX=stays", "EMPTY=", "TELEPORT_HOME=/right",
		"TELEPORT_LOGIN_BROWSER=none", "TELEPORT_TOOLS_VERSION=off", "KUBECONFIG=" + os.DevNull,
	}
	if got := environment(in, "/right"); !slices.Equal(got, want) {
		t.Errorf("environment =\n%q, want\n%q", got, want)
	}
	for _, kv := range environment(in, "") {
		if strings.HasPrefix(kv, "TELEPORT_HOME") {
			t.Errorf("without a home there is %q", kv)
		}
	}
}

func TestCommand(t *testing.T) {
	t.Run("child_sees_the_scrubbed_environment", func(t *testing.T) {
		program := useFake(t, "prints_and_fails")
		t.Setenv("TELEPORT_PROXY", "evil:443")
		_, _ = Command(t.Context(), program, "/some/home", "status").Output()
		env := readNote(t, filepath.Dir(program), "env")
		if strings.Contains(env, "evil") || !strings.Contains(env, "\nTELEPORT_HOME=/some/home\n") {
			t.Errorf("the child's environment:\n%s", env)
		}
	})
	t.Run("output_and_error_together", func(t *testing.T) {
		out, err := Command(t.Context(), useFake(t, "prints_and_fails"), "", "status", "--format=json").Output()
		if string(out) != "{\"active\":null}\n" {
			t.Errorf("stdout = %q", out)
		}
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Code != 1 {
			t.Fatalf("error = %v, want an ExitError with code 1", err)
		}
		if want := "tsh status exited with code 1: Active profile expired."; err.Error() != want {
			t.Errorf("error = %q, want %q", err, want)
		}
	})
	t.Run("stdin_is_empty", func(t *testing.T) {
		out, err := Command(t.Context(), useFake(t, "reads_stdin"), "").Output()
		if err != nil || string(out) != "0 <nil>\n" {
			t.Errorf("reading stdin: %q, %v", out, err)
		}
	})
	t.Run("arguments_stay_out_of_the_error", func(t *testing.T) {
		_, err := Command(t.Context(), useFake(t, "exits"), "", "proxy", "db", "--db-user=alice", "pg").Output()
		if want := `tsh proxy db exited with code 1: database "nope" not found in cluster`; err == nil || err.Error() != want {
			t.Errorf("error = %v, want %q", err, want)
		}
	})
	t.Run("ends_with_its_context", func(t *testing.T) {
		program := useFake(t, "hangs")
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := Command(ctx, program, "", "login").Output()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error = %v, want the context's", err)
		}
		testwait.Soon(t, "the end", time.Since(start), 2*time.Second)
	})
}

func TestWhatAChildLeavesBehindIsKilled(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"parent_that_leaves", "parent"} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			program := useFake(t, part)
			dir := filepath.Dir(program)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := Command(ctx, program, "", "proxy").Output()
				done <- err
			}()
			testwait.Eventually(t, "the grandchild to start", func() bool {
				_, err := strconv.Atoi(readNote(t, dir, "grandchild"))
				return err == nil
			})
			pid, _ := strconv.Atoi(readNote(t, dir, "grandchild"))
			if part == "parent" {
				cancel()
			}
			start := time.Now()
			if err := <-done; err == nil {
				t.Error("the command succeeded")
			}
			testwait.Soon(t, "the end", time.Since(start), 4*time.Second)
			testwait.Eventually(t, "the grandchild to be gone", func() bool { return !running(pid) })
		})
	}
}

// TestChildOutlivesTheThreadThatAskedForIt: on Linux the death signal comes
// with the end of the thread that forked.
func TestChildOutlivesTheThreadThatAskedForIt(t *testing.T) {
	t.Parallel()
	program := useFake(t, "hangs")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := make(chan *process)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		p, err := startProcess(Command(ctx, program, ""), &lineWriter{}, &lineWriter{})
		if err != nil {
			t.Error(err)
		}
		started <- p
	}()
	p := <-started
	select {
	case <-p.done:
		t.Fatalf("the child ended with the thread that asked for it: %v", p.err)
	case <-time.After(300 * time.Millisecond):
	}
	cancel()
	<-p.done
}

func readNote(t *testing.T, dir, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(raw)
}

// TestScarceMachine: a machine that has nothing left for another program is named in
// words that say what to do.
func TestScarceMachine(t *testing.T) {
	for lack, want := range map[syscall.Errno]string{
		syscall.EAGAIN: "raise the limit of processes",
		syscall.ENOMEM: "no memory",
		syscall.EMFILE: "raise the limit (",
		syscall.ENFILE: "too many open files on this machine",
	} {
		err := scarce(&fs.PathError{Op: "fork/exec", Path: "/usr/bin/tsh", Err: lack})
		if !strings.Contains(err.Error(), want) || !errors.Is(err, lack) {
			t.Errorf("%v: %v", lack, err)
		}
	}
	if err := scarce(fs.ErrPermission); err != fs.ErrPermission { //nolint:errorlint // it is the same
		t.Errorf("another error became %v", err)
	}
}
