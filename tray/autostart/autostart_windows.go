package autostart

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

const (
	runKey      = `Software\Microsoft\Windows\CurrentVersion\Run`
	approvedKey = `Software\Microsoft\Windows\CurrentVersion\Explorer\StartupApproved\Run`
)

// Install has Windows start e at login.
func Install(e Entry, _ func(string) string) (Result, error) {
	r := Result{Path: `HKCU\` + runKey + `\` + name, Off: switchedOff()}
	key, _, err := registry.CreateKey(registry.CURRENT_USER, runKey, registry.QUERY_VALUE|registry.SET_VALUE)
	if err != nil {
		return r, fmt.Errorf("open the registry's list of what is started: %w", err)
	}
	defer func() { _ = key.Close() }() // what was written is written
	command := commandLine(e)
	if old, _, err := key.GetStringValue(name); err == nil && old == command {
		return r, nil
	}
	if err := key.SetStringValue(name, command); err != nil {
		return r, fmt.Errorf("write to the registry's list of what is started: %w", err)
	}
	r.Changed = true
	return r, nil
}

// Look says how e's entry is, and changes nothing.
func Look(e Entry, _ func(string) string) (State, error) {
	st := State{Path: `HKCU\` + runKey + `\` + name, Off: switchedOff()}
	key, err := registry.OpenKey(registry.CURRENT_USER, runKey, registry.QUERY_VALUE)
	if errors.Is(err, registry.ErrNotExist) {
		return st, nil
	}
	if err != nil {
		return st, fmt.Errorf("open the registry's list of what is started: %w", err)
	}
	defer func() { _ = key.Close() }() // it was only read
	is, _, err := key.GetStringValue(name)
	if errors.Is(err, registry.ErrNotExist) {
		return st, nil
	}
	if err != nil {
		return st, fmt.Errorf("read the registry's list of what is started: %w", err)
	}
	st.Installed, st.Current = true, is == commandLine(e)
	return st, nil
}

// Uninstall takes the entry away.
func Uninstall(func(string) string) (Result, error) {
	r := Result{Path: `HKCU\` + runKey + `\` + name}
	key, err := registry.OpenKey(registry.CURRENT_USER, runKey, registry.SET_VALUE)
	if errors.Is(err, registry.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("open the registry's list of what is started: %w", err)
	}
	defer func() { _ = key.Close() }() // what was written is written
	err = key.DeleteValue(name)
	if errors.Is(err, registry.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("remove from the registry's list of what is started: %w", err)
	}
	r.Changed = true
	return r, nil
}

// commandLine is what the installer writes too: a program's path, in which no quote can
// be, is quoted in any case.
func commandLine(e Entry) string {
	words := []string{`"` + e.Program + `"`}
	for _, a := range e.Args {
		words = append(words, windows.EscapeArg(a))
	}
	return strings.Join(words, " ")
}

// switchedOff reports whether the user has switched the entry off in the Task
// Manager: the first byte of its value is odd then.
func switchedOff() bool {
	key, err := registry.OpenKey(registry.CURRENT_USER, approvedKey, registry.QUERY_VALUE)
	if err != nil {
		return false
	}
	defer func() { _ = key.Close() }() // it was only read
	value, _, err := key.GetBinaryValue(name)
	return err == nil && len(value) > 0 && value[0]%2 == 1
}
