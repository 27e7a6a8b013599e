//go:build !linux

package lean

// Trim gives back the memory that only the start needed.
func Trim() error {
	freeHeap()
	return nil
}
