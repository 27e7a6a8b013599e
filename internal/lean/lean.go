// Package lean keeps a small process of a large program small.
//
// Starting the program touches much of it: each package prepares itself. What
// is mapped from its file stays counted as the process's memory although it is
// the file's, and most of it is never needed again. Trim and pages give it back.
package lean

import (
	"runtime"
	"runtime/debug"
	"time"
)

// AfterStart gives memory back while a process starts, and keeps it lean from
// then on: pages of the program come back that are needed once in a while.
// heapAt says when the start may be over. What failed goes to failed.
func AfterStart(heapAt []time.Duration, failed func(error)) {
	try := func(give func() error) {
		if err := give(); err != nil {
			failed(err)
		}
	}
	for _, after := range heapAt {
		time.AfterFunc(after, func() { try(Trim) })
	}
	began := time.Now()
	var again func()
	again = func() {
		try(pages)
		pause := startEvery
		if time.Since(began) > startLasts {
			pause = pagesEvery
		}
		time.AfterFunc(pause, again)
	}
	again()
}

const (
	// startEvery is how often pages are given back while much happens for the
	// first time, for as long as startLasts.
	startEvery, startLasts = 50 * time.Millisecond, 3 * time.Second
	// pagesEvery is how often they are given back later. To have the needed ones
	// back takes a millisecond.
	pagesEvery = 30 * time.Second
)

// Trim gives back the heap that only the start needed, and pages.
func Trim() error {
	freeHeap()
	return pages()
}

// freeHeap gives back what Go has no use for. A collection makes a goroutine's
// stack half as large where less than a quarter of it is used; what the start
// made deep takes several.
func freeHeap() {
	for range 2 {
		runtime.GC()
	}
	debug.FreeOSMemory()
}
