package atomicfile

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/testneeds"
)

// killEnv makes the test binary a writer that never stops: see TestWriteKilled.
const killEnv = "ATOMICFILE_TEST_WRITE_TO"

func TestMain(m *testing.M) {
	if path := os.Getenv(killEnv); path != "" {
		writeForEver(path)
	}
	os.Exit(m.Run())
}

// content is a file's worth of data that shows when it is torn: all its bytes
// are the same.
func content(i int) []byte { return bytes.Repeat([]byte{byte('a' + i%26)}, 200_000) }

func writeForEver(path string) {
	for i := 0; ; i++ {
		if err := Write(path, content(i), 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for i, want := range []string{"first", "second, longer", ""} {
		if err := Write(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := readFile(t, path); got != want {
			t.Errorf("write %d: got %q, want %q", i, got, want)
		}
	}
	if runtime.GOOS != "windows" {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("mode %o, want 600", got)
		}
	}
	wantAlone(t, path)
}

func TestWriteMode(t *testing.T) {
	testneeds.Unix(t, "Windows has no such modes")
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("mode %o, want 600", got)
	}
}

func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	full := filepath.Join(dir, "folder")
	if err := os.MkdirAll(filepath.Join(full, "child"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(full, []byte("x"), 0o600); err == nil {
		t.Error("a folder was replaced by a file")
	} else if !strings.Contains(err.Error(), full) {
		t.Errorf("error %q does not name %s", err, full)
	}
	wantAlone(t, full)
	if err := Write(filepath.Join(dir, "missing", "file"), []byte("x"), 0o600); err == nil {
		t.Error("write into a missing folder succeeded")
	}
}

// Readers beside a writer see whole contents only.
func TestWriteUnderReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := Write(path, content(0), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				data, err := os.ReadFile(path)
				if err != nil {
					if runtime.GOOS == "windows" {
						continue // held by the writer for a moment
					}
					t.Error(err)
					return
				}
				if !whole(data) {
					t.Error("a reader saw a torn file")
					return
				}
			}
		})
	}
	for i := range 100 {
		if err := Write(path, content(i), 0o600); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	wg.Wait()
}

// A writer killed at any moment leaves the old or the new content.
func TestWriteKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := Write(path, content(0), 0o600); err != nil {
		t.Fatal(err)
	}
	for round := range 20 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killEnv+"="+path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(10+7*round) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the writer ended by itself")
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !whole(data) {
			t.Fatalf("round %d: the file is torn: %d bytes", round, len(data))
		}
	}
	if err := Clean(path, 0); err != nil {
		t.Fatal(err)
	}
	wantAlone(t, path)
}

func TestClean(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	old := time.Now().Add(-time.Hour)
	files := map[string]bool{ // name: stays
		"config.yaml":           true,
		".config.yaml.123.tmp":  false,
		".config.yaml.tmp":      true,
		".config.yaml.mine.tmp": true,
		".other.yaml.123.tmp":   true,
		".config.yaml.lock":     true,
	}
	for name := range files {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, old, old); err != nil {
			t.Fatal(err)
		}
	}
	fresh := filepath.Join(dir, ".config.yaml.456.tmp")
	if err := os.WriteFile(fresh, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	files[filepath.Base(fresh)] = true
	if err := Clean(path, time.Minute); err != nil {
		t.Fatal(err)
	}
	for name, stays := range files {
		_, err := os.Stat(filepath.Join(dir, name))
		if got := err == nil; got != stays {
			t.Errorf("%s: there is %v, want %v", name, got, stays)
		}
	}
}

func TestResolve(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	in := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	if err := os.MkdirAll(in("dotfiles", "berth"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("dotfiles", "real"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{
		"abs":       in("dotfiles", "real"),
		"rel":       filepath.Join("dotfiles", "real"),
		"twice":     "rel",
		"dangling":  filepath.Join("dotfiles", "later"),
		"linkeddir": filepath.Join("dotfiles", "berth"),
		"loop":      "loop",
	} {
		testneeds.Here(t, "symbolic links", os.Symlink(to, in(filepath.FromSlash(link))))
	}
	// ".." after a linked folder means the parent of where the link leads.
	if err := os.Symlink(filepath.Join("..", "real"), in("dotfiles", "berth", "parent")); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ path, want string }{
		"plain_file":     {in("dotfiles", "real"), in("dotfiles", "real")},
		"no_file":        {in("none"), in("none")},
		"absolute_link":  {in("abs"), in("dotfiles", "real")},
		"relative_link":  {in("rel"), in("dotfiles", "real")},
		"link_to_link":   {in("twice"), in("dotfiles", "real")},
		"dangling_link":  {in("dangling"), in("dotfiles", "later")},
		"through_folder": {in("linkeddir", "parent"), in("dotfiles", "real")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Resolve(tt.path)
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("Resolve(%q) = %q, want %q", tt.path, got, tt.want)
			}
		})
	}
	if _, err := Resolve(in("loop")); err == nil || !strings.Contains(err.Error(), "loop") {
		t.Errorf("a loop of links: error %v", err)
	}
}

func whole(data []byte) bool {
	return len(data) == len(content(0)) && len(bytes.Trim(data, string(data[:1]))) == 0
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// wantAlone fails when there is anything beside path in its folder.
func wantAlone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(path) {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}
