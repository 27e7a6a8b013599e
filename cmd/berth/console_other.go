//go:build !windows

package main

// leaveConsole does something on Windows only.
func leaveConsole() {}
