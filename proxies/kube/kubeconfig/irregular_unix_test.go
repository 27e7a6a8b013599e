//go:build unix

package kubeconfig

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"berth/internal/atomicfile"
)

// TestIrregular: what is no file is neither opened, which for a pipe is to wait for
// ever, nor replaced; nothing is left beside it.
func TestIrregular(t *testing.T) {
	for name, tt := range map[string]struct {
		make func(path string) error
		mode fs.FileMode
	}{
		"pipe":   {func(p string) error { return syscall.Mkfifo(p, 0o600) }, fs.ModeNamedPipe},
		"folder": {func(p string) error { return os.Mkdir(p, 0o700) }, fs.ModeDir},
	} {
		t.Run(name, func(t *testing.T) {
			m := Merger{Path: filepath.Join(t.TempDir(), "config"), Record: filepath.Join(t.TempDir(), "record.json")}
			if err := tt.make(m.Path); err != nil {
				t.Fatal(err)
			}
			refused := func(what string, res Result, err error) {
				t.Helper()
				_, broken := errors.AsType[*BrokenError](err)
				if !broken || !errors.Is(err, atomicfile.ErrForeign) || res.Path != m.Path {
					t.Errorf("%s = %+v, %v", what, res, err)
				}
			}
			res, err := m.Merge(t.Context(), contexts, true)
			refused("Merge", res, err)
			res, err = m.Undo(t.Context())
			refused("Undo", res, err)
			if got := Merged(m.Path, t.TempDir(), m.Record); got != nil {
				t.Errorf("Merged = %v", got)
			}
			if file, _ := Misleading(func(string) string { return m.Path }, ""); file != "" {
				t.Errorf("Misleading = %q", file)
			}
			if info, err := os.Lstat(m.Path); err != nil || info.Mode().Type() != tt.mode {
				t.Errorf("it became %v, %v", info, err)
			}
			if beside, _ := filepath.Glob(m.Path + "?*"); len(beside) > 0 {
				t.Errorf("left beside it: %v", beside)
			}
		})
	}
}
