package process

import (
	"os"
	"path/filepath"
	"testing"
)

// TestReplaced upgrades a program as package managers and people do.
func TestReplaced(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(path string) error
		want   bool
	}{
		"untouched": {func(string) error { return nil }, false},
		"renamed_over": {func(path string) error {
			if err := os.WriteFile(path+".new", []byte("old"), 0o600); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		}, true},
		"written_in_place": {func(path string) error { return os.WriteFile(path, []byte("newer"), 0o600) }, true},
		"gone":             {os.Remove, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "berth")
			if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.change(path); err != nil {
				t.Fatal(err)
			}
			p := Executable{path: path, info: info}
			if got := p.Problems("1.2.3"); (len(got) == 1) != tt.want || tt.want && got[0].Action != "berth agent restart" {
				t.Errorf("problems: %+v, want one: %v", got, tt.want)
			}
		})
	}
	if p := OwnExecutable(); p.info == nil || p.replaced() {
		t.Errorf("of this test: %+v", p)
	}
}
