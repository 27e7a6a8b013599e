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
			p := ExecutableAt(path)
			if err := tt.change(path); err != nil {
				t.Fatal(err)
			}
			if got := p.Problems("1.2.3"); got != nil {
				t.Errorf("before a look: %+v", got)
			}
			p.Look()
			if got := p.Problems("1.2.3"); (len(got) == 1) != tt.want || tt.want && got[0].Action != "berth agent restart" {
				t.Errorf("problems: %+v, want one: %v", got, tt.want)
			}
		})
	}
	p := OwnExecutable()
	p.Look()
	if p.info == nil || p.Problems("1.2.3") != nil {
		t.Errorf("of this test: %+v, %+v", p.info, p.Problems("1.2.3"))
	}
}
