package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"berth/agent/config"
)

// The page that plays a recording can be saved, so it is an export.
func TestPolicyRecordingPage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte("recordings: {export: off}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &app{policy: config.PolicyFile{Path: path, Trusted: func(*os.File) error { return nil }}}
	var page bytes.Buffer
	err := a.showRecording(nil)(t.Context(), "c", "5e1f0c2a", &page)
	if forbidden := (*config.PolicyError)(nil); !errors.As(err, &forbidden) || page.Len() > 0 {
		t.Errorf("the page has %d bytes: %v", page.Len(), err)
	}
}
