package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestModuleNeedsALicence(t *testing.T) {
	dir := t.TempDir()
	if text, err := licences(dir); err == nil {
		t.Errorf("a module without a licence was taken: %q", text)
	}
	if err := os.WriteFile(filepath.Join(dir, "LICENSE.txt"), []byte("do as you like\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := licences(dir); err != nil || text != "\n--- LICENSE.txt\n\ndo as you like\n" {
		t.Errorf("%v: %q", err, text)
	}
}
