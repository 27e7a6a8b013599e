package osservice

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// TestStayingFolder: a home that is no folder does not keep a program from starting.
func TestStayingFolder(t *testing.T) {
	home := "HOME"
	if runtime.GOOS == "windows" {
		home = "USERPROFILE"
	}
	there := t.TempDir()
	file := filepath.Join(there, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{there, "", filepath.Join(there, "not"), file} {
		t.Setenv(home, value)
		got := stayingFolder()
		if info, err := os.Stat(got); err != nil || !info.IsDir() || value == there && got != there {
			t.Errorf("with a home of %q programs start in %q: %v", value, got, err)
		}
	}
}
