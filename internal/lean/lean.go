// Package lean keeps a small process of a large program small.
//
// Starting the program touches much of it: each package prepares itself. What
// is mapped from its file stays counted as the process's memory although it is
// the file's, and most of it is never needed again. Trim gives it back.
package lean

import (
	"runtime"
	"runtime/debug"
)

// freeHeap gives back what Go has no use for. A collection makes a goroutine's
// stack half as large where less than a quarter of it is used; what the start
// made deep takes several.
func freeHeap() {
	for range 2 {
		runtime.GC()
	}
	debug.FreeOSMemory()
}
