//go:build unix

package doctest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestVulnScript: "make vuln" fails on findings and on a tool that fails, and says so
// aloud when there is no database.
func TestVulnScript(t *testing.T) {
	for name, c := range map[string]struct {
		says    string
		code    int
		fails   bool
		skipped bool
	}{
		"none":    {"No vulnerabilities found.", 0, false, false},
		"found":   {"Vulnerability #1: GO-2099-0001", 3, true, false},
		"offline": {"govulncheck: fetching vulnerabilities: Get \"https://vuln.go.dev/index/modules.json.gz\": dial tcp: lookup vuln.go.dev: no such host", 1, false, true},
		"broken":  {"govulncheck: loading packages: there are errors", 1, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			tool := filepath.Join(t.TempDir(), "govulncheck")
			if err := os.WriteFile(tool, fmt.Appendf(nil, "#!/bin/sh\ncat <<'END'\n%s\nEND\nexit %d\n", c.says, c.code), 0o700); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), "sh", filepath.Join(root, "packaging", "vuln.sh"), tool).CombinedOutput()
			if (err != nil) != c.fails || strings.Contains(string(out), "SKIPPED vuln") != c.skipped || !strings.Contains(string(out), c.says) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
