//go:build !linux

package lean

// Pages does nothing: these systems do not count pages of files as a process's
// memory, or take them back by themselves.
func Pages() error { return nil }
