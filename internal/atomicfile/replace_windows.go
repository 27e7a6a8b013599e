package atomicfile

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/windows"

	"berth/internal/wake"
)

// A virus scanner or an indexer may hold either file for a moment; replace
// tries again for replaceFor before it gives up.
const (
	replaceFor   = 2 * time.Second
	replaceEvery = 20 * time.Millisecond
)

// replace renames from to to, taking its place. Write-through makes the rename
// durable, as syncing the folder does elsewhere.
func replace(from, to string) error {
	fromPtr, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	toPtr, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	const flags = windows.MOVEFILE_REPLACE_EXISTING | windows.MOVEFILE_WRITE_THROUGH
	for end := time.Now().Add(replaceFor); ; {
		err := windows.MoveFileEx(fromPtr, toPtr, flags)
		if err == nil {
			return nil
		}
		if !held(err) || time.Now().After(end) {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
		}
		// No context ends this: whoever writes while berth stops would lose what
		// they write.
		wake.Sleep(context.Background(), replaceEvery)
	}
}

// held reports whether err says that another process has the file open.
func held(err error) bool {
	return errors.Is(err, windows.ERROR_ACCESS_DENIED) ||
		errors.Is(err, windows.ERROR_SHARING_VIOLATION) ||
		errors.Is(err, windows.ERROR_LOCK_VIOLATION)
}

// syncDir does nothing: replace has written through.
func syncDir(string) error { return nil }
