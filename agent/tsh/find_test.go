package tsh

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func writeProgram(t *testing.T, path string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	first := writeProgram(t, filepath.Join(dir, "one", programName), 0o755)
	second := writeProgram(t, filepath.Join(dir, "two", programName), 0o755)
	plain := writeProgram(t, filepath.Join(dir, "data", programName), 0o644)
	folder := filepath.Join(dir, "folder", programName)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	inHome := writeProgram(t, filepath.Join(dir, "home", ".local", "bin", programName), 0o755)

	tests := []struct {
		name, config string
		path         []string
		want         string // empty: not found
		unix         bool
	}{
		{"config_wins", second, []string{"one"}, second, false},
		{"first_in_path", "", []string{"one", "two"}, first, false},
		{"skips_what_cannot_run", "", []string{"data", "folder", "two"}, second, true},
		{"usual_place", "", []string{"empty"}, inHome, true},
		{"config_is_missing", filepath.Join(dir, "none"), []string{"one"}, "", false},
		{"config_cannot_run", plain, []string{"one"}, "", true},
		{"config_is_a_folder", folder, []string{"one"}, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var path []string
			for _, p := range tt.path {
				path = append(path, filepath.Join(dir, p))
			}
			env := map[string]string{
				"PATH": strings.Join(path, string(filepath.ListSeparator)),
				"HOME": filepath.Join(dir, "home"),
			}
			got, err := Find(Options{ConfigPath: tt.config, Env: func(k string) string { return env[k] }})
			if tt.unix && runtime.GOOS == "windows" {
				return // a place of Unix, or an execute bit
			}
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Fatalf("Find = %q, %v, want %q", got, err, tt.want)
			}
			var missing *NotFoundError
			if err != nil && (!errors.As(err, &missing) || !missing.FromConfig || missing.Hint() == "" ||
				missing.Looked[0] != tt.config) {
				t.Errorf("Find: %#v, want the config's path and a hint", err)
			}
		})
	}
	t.Run("not_from_the_current_folder", func(t *testing.T) {
		t.Chdir(filepath.Join(dir, "one"))
		got, err := Find(Options{Env: func(k string) string {
			return map[string]string{"PATH": "." + string(filepath.ListSeparator)}[k]
		}})
		var missing *NotFoundError
		if got != "" || !errors.As(err, &missing) {
			t.Fatalf("Find = %q, %v, want not found", got, err)
		}
		if missing.FromConfig || missing.Looked[0] != "PATH" || missing.Hint() == "" {
			t.Errorf("not found: %+v, want PATH and the usual places", missing)
		}
	})
}

func TestInstallPlaces(t *testing.T) {
	env := func(k string) string {
		return map[string]string{
			"HOME": "/home/alice", "ProgramFiles": `C:\Program Files`, "LOCALAPPDATA": `C:\Users\alice\AppData\Local`,
		}[k]
	}
	for goos, want := range map[string][]string{
		"linux":   {"/usr/local/bin/tsh", "/opt/Teleport Connect/resources/bin/tsh", "/home/alice/.local/bin/tsh"},
		"darwin":  {"/opt/homebrew/bin/tsh", "/Applications/Teleport Connect.app/Contents/MacOS/tsh.app/Contents/MacOS/tsh"},
		"windows": {`C:\Program Files\Teleport Connect\resources\bin\tsh.exe`},
	} {
		got := installPlaces(goos, env)
		for _, w := range want {
			if !slices.Contains(got, w) {
				t.Errorf("installPlaces(%s) = %q lacks %q", goos, got, w)
			}
		}
		for _, g := range got {
			if strings.HasPrefix(g, `\`) {
				t.Errorf("installPlaces(%s) has %q of an empty variable", goos, g)
			}
		}
	}
}
