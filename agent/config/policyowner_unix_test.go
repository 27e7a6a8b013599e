//go:build unix

package config

import (
	"io/fs"
	"strings"
	"testing"
)

func TestRootOwns(t *testing.T) {
	for _, tt := range []struct {
		mode fs.FileMode
		uid  uint32
		want bool
	}{
		{0o644, 0, true}, {0o600, 0, true}, {0o644, 1000, false}, {0o664, 0, false}, {0o646, 0, false},
		{fs.ModeDir | 0o755, 0, true}, {fs.ModeDir | 0o755, 1000, false}, {fs.ModeDir | 0o775, 0, false},
		{fs.ModeDir | fs.ModeSticky | 0o775, 0, true}, {fs.ModeDir | fs.ModeSticky | 0o777, 0, false}, {fs.ModeSticky | 0o666, 0, false},
	} {
		if err := rootOwns(tt.mode, tt.uid); (err == nil) != tt.want {
			t.Errorf("%v of user %d: %v", tt.mode, tt.uid, err)
		}
	}
}

// TestOwnerMode: a mode is named as ls shows it.
func TestOwnerMode(t *testing.T) {
	err := rootOwns(fs.ModeDir|fs.ModeSticky|0o777, 0)
	if err == nil || !strings.HasSuffix(err.Error(), "its mode is 1777") {
		t.Errorf("a sticky folder: %v", err)
	}
}
