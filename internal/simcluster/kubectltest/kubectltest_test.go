package kubectltest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/internal/testneeds"
)

// TestUsable refuses the versions that lose what a pod sends first.
func TestUsable(t *testing.T) {
	testneeds.Unix(t, "needs a shell: the stand-ins are scripts")
	for minor, want := range map[string]string{
		"32+": "is 1.32", "33": "is 1.33", "34": "", "37": "", "": "read its version",
	} {
		path := filepath.Join(t.TempDir(), "kubectl")
		script := "#!/bin/sh\necho '{\"clientVersion\": {\"major\": \"1\", \"minor\": \"" + minor + "\"}}'\n"
		if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		switch err := usable(path); {
		case want == "" && err != nil:
			t.Errorf("minor %q: %v", minor, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("minor %q: %v, want %q", minor, err, want)
		}
	}
	if err := usable(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a kubectl that does not exist is usable")
	}
}
