//go:build !linux

package lean

// pages does nothing: these systems do not count pages of files as a process's
// memory, or take them back by themselves.
func pages() error { return nil }
