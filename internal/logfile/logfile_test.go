package logfile

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/internal/testneeds"
	"berth/internal/testwait"
)

func TestMain(m *testing.M) { testwait.NoLeaks(m) }

func bytesOf(n int64) *atomic.Int64 {
	var size atomic.Int64
	size.Store(n)
	return &size
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func checkPrivate(t *testing.T, path string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		return // there the folder's access list protects it
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("%s has mode %o, want 600", filepath.Base(path), got)
	}
}

func TestNewWritesToFileAndConsole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.log")
	var console bytes.Buffer
	log, closeLog := New(path, slog.LevelInfo, nil, &console)
	if _, err := os.Stat(path); err == nil {
		t.Error("the file is there before the first line")
	}
	log.Info("tunnel up", "tunnel", "prod-pg")
	log.Debug("not shown")
	closeLog()
	closeLog() // twice harms nothing
	for where, text := range map[string]string{"file": read(t, path), "console": console.String()} {
		if !strings.Contains(text, `msg="tunnel up" tunnel=prod-pg`) || strings.Contains(text, "not shown") {
			t.Errorf("%s has %q", where, text)
		}
	}
	checkPrivate(t, path)
}

func TestLevelChangesWhileRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.log")
	level := new(slog.LevelVar)
	log, closeLog := New(path, level, nil, nil)
	defer closeLog()
	log.Debug("before")
	level.Set(slog.LevelDebug)
	log.Debug("after")
	if got := read(t, path); strings.Contains(got, "before") || !strings.Contains(got, "after") {
		t.Errorf("log has %q", got)
	}
}

func TestFileThatWasOpenToOthersIsClosedToThem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.log")
	if err := os.WriteFile(path, []byte("old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	log, closeLog := New(path, slog.LevelInfo, nil, nil)
	defer closeLog()
	log.Info("new")
	checkPrivate(t, path)
	if got := read(t, path); !strings.HasPrefix(got, "old\n") || !strings.Contains(got, "new") {
		t.Errorf("log has %q, want the old line and the new one", got)
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	l := &file{path: filepath.Join(dir, "agent.log"), max: bytesOf(10), keep: 2}
	defer l.close()
	for _, line := range []string{"one.....\n", "two\n", "three...\n", "four\n", "5\n", "six.......longer than a file\n", "7\n"} {
		if n, err := l.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatalf("Write(%q) = %d, %v", line, n, err)
		}
	}
	if diff := cmp.Diff([]string{"agent.log", "agent.log.1", "agent.log.2"}, names(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{
		"agent.log":   "7\n",
		"agent.log.1": "six.......longer than a file\n",
		"agent.log.2": "four\n5\n",
	} {
		path := filepath.Join(dir, name)
		if got := read(t, path); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
		checkPrivate(t, path)
	}
}

func TestSizeCountsWhatWasThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.log")
	for _, line := range []string{"12345678\n", "next\n"} { // as two runs of the agent
		l := &file{path: path, max: bytesOf(10), keep: 1}
		if _, err := l.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
		l.close()
	}
	if got := read(t, path); got != "next\n" {
		t.Errorf("log has %q, want the second line alone", got)
	}
}

func TestRemovedFileIsMadeAnew(t *testing.T) {
	testneeds.Unix(t, "Windows does not remove a file that is open")
	path := filepath.Join(t.TempDir(), "agent.log")
	l := &file{path: path, max: bytesOf(defaultSize), keep: maxOld}
	defer l.close()
	for _, line := range []string{"first\n", "second\n"} {
		if _, err := l.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
		if line == "first\n" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := read(t, path); got != "second\n" {
		t.Errorf("log has %q, want the second line", got)
	}
}

// A log that cannot be written must not keep the terminal from being told, and
// must recover.
func TestUnwritableFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "agent.log")
	var console bytes.Buffer
	log, closeLog := New(path, slog.LevelInfo, nil, &console)
	defer closeLog()
	log.Info("one")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	log.Info("two")
	if got := console.String(); !strings.Contains(got, "one") || !strings.Contains(got, "two") {
		t.Errorf("console has %q, want both lines", got)
	}
	if got := read(t, path); !strings.Contains(got, "two") {
		t.Errorf("file has %q, want the second line", got)
	}
}

// Old files that are in the way do not stop the log.
func TestRotationThatFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.log")
	if err := os.MkdirAll(filepath.Join(path+".1", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	l := &file{path: path, max: bytesOf(10), keep: 1}
	defer l.close()
	for _, line := range []string{"12345678\n", "next\n", "more\n"} {
		if _, err := l.Write([]byte(line)); err != nil {
			t.Fatalf("Write(%q): %v", line, err)
		}
	}
	if got := read(t, path); got != "12345678\nnext\nmore\n" {
		t.Errorf("log has %q, want every line", got)
	}
}

func TestManyWriters(t *testing.T) {
	dir := t.TempDir()
	l := &file{path: filepath.Join(dir, "agent.log"), max: bytesOf(1000), keep: 100}
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 50 {
				if _, err := l.Write([]byte("twenty bytes a line\n")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	l.close()
	lines := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		for line := range strings.Lines(read(t, path)) {
			if line != "twenty bytes a line\n" {
				t.Errorf("torn line %q", line)
			}
			lines++
		}
		return nil
	})
	if err != nil || lines != 8*50 {
		t.Errorf("%d lines (%v), want %d", lines, err, 8*50)
	}
}

func TestDemote(t *testing.T) {
	for _, test := range []struct {
		name  string
		level slog.Level
		want  string
	}{
		{"hidden_at_info", slog.LevelInfo, ""},
		{"debug_at_debug", slog.LevelDebug, "level=DEBUG msg=hello g.a=1 g.b=2\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			h := slog.NewTextHandler(&out, &slog.HandlerOptions{
				Level: test.level,
				ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
					if a.Key == slog.TimeKey {
						return slog.Attr{}
					}
					return a
				},
			})
			log := slog.New(Demote(h)).WithGroup("g").With("a", 1)
			log.Log(t.Context(), slog.LevelError, "hello", "b", 2)
			if got := out.String(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestSizeIsALimit: a line that just fits goes into the file, and the next one into
// another; a size that changes counts from the next line on.
func TestSizeIsALimit(t *testing.T) {
	dir := t.TempDir()
	l := &file{path: filepath.Join(dir, "agent.log"), max: bytesOf(10), keep: 2}
	defer l.close()
	for _, line := range []string{"12345", "6789\n", "x"} {
		if _, err := l.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, l.path+".1"); got != "123456789\n" || read(t, l.path) != "x" {
		t.Errorf("the full file has %q, the new one %q", got, read(t, l.path))
	}
	l.max.Store(20)
	if _, err := l.Write([]byte("12345678901234567890")[:19]); err != nil {
		t.Fatal(err)
	}
	if got := read(t, l.path); len(got) != 20 {
		t.Errorf("a raised limit leaves %q in the file", got)
	}
}
