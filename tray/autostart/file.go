//go:build !windows

package autostart

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"berth/internal/atomicfile"
)

// writeEntry makes the file at path be content.
func writeEntry(path string, content []byte) (Result, error) {
	r := Result{Path: path}
	old, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(old, content):
		return r, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return r, fmt.Errorf("read the autostart entry: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return r, fmt.Errorf("make the folder of autostart entries: %w", err)
	}
	if err := atomicfile.Write(path, content, 0o600); err != nil {
		return r, fmt.Errorf("write the autostart entry: %w", err)
	}
	r.Changed = true
	return r, nil
}

// lookAt compares the file at path with content.
func lookAt(path string, content []byte) (State, error) {
	is, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return State{Path: path}, nil
	case err != nil:
		return State{Path: path}, fmt.Errorf("read the autostart entry: %w", err)
	}
	return State{Path: path, Installed: true, Current: bytes.Equal(is, content)}, nil
}

func removeEntry(path string) (Result, error) {
	r := Result{Path: path}
	err := os.Remove(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, nil
	case err != nil:
		return r, fmt.Errorf("remove the autostart entry: %w", err)
	}
	r.Changed = true
	return r, nil
}

// homeDir is the user's home: the environment's, which is how the desktop sees
// it too.
func homeDir(env func(string) string) (string, error) {
	if dir := env("HOME"); filepath.IsAbs(dir) {
		return dir, nil
	}
	return "", errors.New("no home folder: set HOME to an absolute path")
}
