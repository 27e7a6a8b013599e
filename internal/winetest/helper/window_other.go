//go:build !windows

package main

import "errors"

// windowSeen is for Windows.
func windowSeen(string) bool { return false }

// tryPipe is for Windows.
func tryPipe(string) error { return errors.New("pipes are Windows'") }
