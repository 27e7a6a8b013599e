//go:build !linux

package lean

import "runtime/debug"

// Trim gives back the memory that only the start needed.
func Trim() error {
	debug.FreeOSMemory()
	return nil
}
