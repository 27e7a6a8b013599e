package tsh

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Options says where to look for tsh.
type Options struct {
	// ConfigPath is the path from the config; when set, nowhere else is looked.
	ConfigPath string
	// Env reads the environment; nil means os.Getenv.
	Env func(string) string
}

// NotFoundError is the error of [Find] when there is no tsh.
type NotFoundError struct {
	Looked     []string // where, in order
	FromConfig bool     // the one place was named by the config
}

// Error says that there is none, and where it would have been found.
func (e *NotFoundError) Error() string {
	if e.FromConfig {
		return fmt.Sprintf("the config's tsh %q is not a program", strings.Join(e.Looked, ""))
	}
	return "tsh not found in " + strings.Join(e.Looked, ", ")
}

// Hint says what to do about it.
func (e *NotFoundError) Hint() string {
	if e.FromConfig {
		return "correct the path of tsh in the config, or take it out to have tsh looked for"
	}
	return "install tsh or Teleport Connect, or name the path of tsh in the config"
}

// Find returns the path of tsh: the config's, else the first in PATH, else the
// first in the places where tsh and Teleport Connect are installed. Programs
// started from a desktop often get a PATH without those.
func Find(o Options) (string, error) {
	if o.Env == nil {
		o.Env = os.Getenv
	}
	if o.ConfigPath != "" {
		if isProgram(o.ConfigPath) {
			return o.ConfigPath, nil
		}
		return "", &NotFoundError{Looked: []string{o.ConfigPath}, FromConfig: true}
	}
	looked := []string{"PATH"}
	for _, dir := range filepath.SplitList(o.Env("PATH")) {
		if !filepath.IsAbs(dir) {
			continue // the current folder is no place to take programs from
		}
		if path := filepath.Join(dir, programName); isProgram(path) {
			return path, nil
		}
	}
	for _, path := range installPlaces(runtime.GOOS, o.Env) {
		if isProgram(path) {
			return path, nil
		}
		looked = append(looked, path)
	}
	return "", &NotFoundError{Looked: looked}
}

// installPlaces lists where goos's packages put tsh.
func installPlaces(goos string, env func(string) string) []string {
	switch goos {
	case "windows":
		return windowsPlaces(env)
	case "darwin":
		return underHome(env("HOME"), []string{
			"/usr/local/bin/tsh",                       // Teleport's pkg, Homebrew on Intel
			"/opt/homebrew/bin/tsh",                    // Homebrew on Apple silicon
			"/Applications/tsh.app/Contents/MacOS/tsh", // Teleport's tsh pkg
			"/Applications/Teleport Connect.app/Contents/MacOS/tsh.app/Contents/MacOS/tsh",
		}, "Applications/Teleport Connect.app/Contents/MacOS/tsh.app/Contents/MacOS/tsh")
	default:
		return underHome(env("HOME"), []string{
			"/usr/local/bin/tsh",                      // Teleport's tarball, deb and rpm
			"/usr/bin/tsh",                            // distributions
			"/opt/teleport/default/bin/tsh",           // Teleport's own updater
			"/opt/teleport/system/bin/tsh",            // packages managed by that updater
			"/opt/Teleport Connect/resources/bin/tsh", // Teleport Connect's deb and rpm
		}, ".local/bin/tsh", "bin/tsh")
	}
}

func underHome(home string, places []string, rel ...string) []string {
	if home == "" {
		return places
	}
	for _, r := range rel {
		places = append(places, home+"/"+r)
	}
	return places
}

// windowsPlaces lists Teleport Connect's two kinds of installation and the
// package managers; tsh's own zip goes wherever the user unpacked it.
func windowsPlaces(env func(string) string) []string {
	var places []string
	for _, p := range []struct{ variable, rel string }{
		{"ProgramFiles", `Teleport Connect\resources\bin\tsh.exe`},          // for all users
		{"LOCALAPPDATA", `Programs\teleport-connect\resources\bin\tsh.exe`}, // for one user
		{"LOCALAPPDATA", `Programs\Teleport Connect\resources\bin\tsh.exe`}, // for one user, other versions
		{"ProgramFiles", `Teleport\tsh.exe`},
		{"ProgramData", `chocolatey\bin\tsh.exe`},
		{"USERPROFILE", `scoop\shims\tsh.exe`},
		{"LOCALAPPDATA", `Microsoft\WinGet\Links\tsh.exe`},
	} {
		if base := env(p.variable); base != "" {
			places = append(places, base+`\`+p.rel)
		}
	}
	return places
}
