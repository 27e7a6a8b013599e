//go:build !windows && !darwin

package autostart

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestInstallLinks(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	env := func(name string) string { return map[string]string{"XDG_DATA_HOME": data}[name] }
	want := filepath.Join(data, "applications", "berth-link.desktop")
	for i, changed := range []bool{true, false} {
		r, err := InstallLinks(t.Context(), "/opt/my apps/berth", env)
		if err != nil || r != (Result{Path: want, Changed: changed}) {
			t.Errorf("install %d: %+v, %v", i, r, err)
		}
	}
	if validate, err := exec.LookPath("desktop-file-validate"); err == nil {
		if out, err := exec.CommandContext(t.Context(), validate, want).CombinedOutput(); err != nil {
			t.Errorf("desktop-file-validate: %v\n%s", err, out)
		}
	}
	cache := filepath.Join(data, "applications", "mimeinfo.cache")
	if _, err := exec.LookPath("update-desktop-database"); err == nil {
		if text, err := os.ReadFile(cache); err != nil || !strings.Contains(string(text), "x-scheme-handler/berth=berth-link.desktop;") {
			t.Errorf("the desktop's index is %q, %v", text, err)
		}
	}
	for i, changed := range []bool{true, false} {
		r, err := UninstallLinks(t.Context(), env)
		if err != nil || r != (Result{Path: want, Changed: changed}) {
			t.Errorf("uninstall %d: %+v, %v", i, r, err)
		}
	}
	if text, err := os.ReadFile(cache); err == nil && strings.Contains(string(text), "berth-link") {
		t.Errorf("the desktop's index still has %q", text)
	}
	if r, err := InstallLinks(t.Context(), "/x", func(string) string { return "" }); err == nil {
		t.Errorf("installed at %s", r.Path)
	}
}
