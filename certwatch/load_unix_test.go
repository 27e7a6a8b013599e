//go:build unix

package certwatch_test

import (
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/certwatch"
	"berth/certwatch/certwatchtest"
	"berth/internal/testneeds"
)

// A pipe in place of a file must not make the watcher wait for its writer.
func TestPipeInPlaceOfFile(t *testing.T) {
	for _, name := range []string{"proxy.test.yaml", "%s/alice.key", "%s/alice-ssh/root-cert.pub", "%s/cas/root.pem"} {
		f := newFixture(t, certwatchtest.Login{})
		f.remove(name)
		f.check(syscall.Mkfifo(f.path(name), 0o600))
		f.age()
		done := make(chan *certwatch.Profile, 1)
		go func() { done <- f.load() }()
		select {
		case p := <-done:
			if p.Problem == nil || !strings.Contains(p.Problem.Error(), "not a regular file") {
				t.Errorf("%s: problem = %v, want that it is not a regular file", name, p.Problem)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: the reading hangs", name)
		}
	}
}

func TestUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		testneeds.Skip(t, "another user than root", "root may read everything")
	}
	f := newFixture(t, certwatchtest.Login{})
	f.check(os.Chmod(f.path("%s/alice.key"), 0))
	f.age()
	if p := f.load(); p.Problem == nil || !strings.Contains(p.Problem.Error(), "permission denied") {
		t.Errorf("problem = %v, want permission denied", p.Problem)
	}
	f.check(os.Chmod(f.home.Dir, 0))
	t.Cleanup(func() { f.check(os.Chmod(f.home.Dir, 0o700)) }) // so that the folder can be removed
	if _, err := certwatch.Load(f.home.Dir); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("Load = %v, want permission denied", err)
	}
	w := runWatcher(t, certwatch.Config{Homes: []string{f.home.Dir}, Logger: slog.New(slog.DiscardHandler)})
	await(t, w, "the unreadable home", troubled)
	f.check(os.Chmod(f.home.Dir, 0o700))
	await(t, w, "the home readable again", func(v *certwatch.View) bool { return len(v.HomeProblems) == 0 })
}
