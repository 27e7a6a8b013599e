//go:build unix

package certwatch

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// withoutFiles runs f while this process can open no file. Nothing else runs meanwhile: a
// test that calls it is not parallel.
func withoutFiles(t *testing.T, f func()) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}()
	f()
}

// TestTooManyOpenFiles: profiles whose files cannot be opened for want of what the
// system gives are neither gone nor broken.
func TestTooManyOpenFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.test.yaml": "web_proxy_addr: a.test:443\nuser: alice\n", "current-profile": "a.test\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h, late := newHome(dir, patience{}), newHome(dir, patience{})
	h.read()
	was := h.shown()
	if len(was) != 1 || was[0].Problem != nil || !was[0].Current {
		t.Fatalf("the home has %+v", was)
	}
	same := func(what string) {
		t.Helper()
		if is := h.shown(); h.problem != nil || len(is) != 1 || is[0] != was[0] || !is[0].Current {
			t.Errorf("%s the home has the problem %v and %+v, want it as before", what, h.problem, is)
		}
	}
	withoutFiles(t, func() {
		if wait := h.read(); wait != lastRetry {
			t.Errorf("what could not be read is read again after %v", wait)
		}
		same("without files")
		if _, whole := h.readProfile("a.test", h.profiles["a.test"]); whole {
			t.Error("a profile that could not be read is taken as read")
		}
		if wait := h.readCurrent(); wait != lastRetry {
			t.Errorf("the current profile's name is read again after %v", wait)
		}
		same("without its files")
		if wait := late.read(); wait != lastRetry || late.problem == nil {
			t.Errorf("a home that is read for the first time has the problem %v, and is read again after %v", late.problem, wait)
		}
	})
	h.read()
	same("with files again")
	if late.read(); late.problem != nil || len(late.shown()) != 1 {
		t.Errorf("with files the other has the problem %v and %+v", late.problem, late.shown())
	}
}
