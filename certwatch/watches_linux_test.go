package certwatch

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/internal/testwait"
)

// TestFolderMovedAndRemoved: a folder that was gone for good when the news of its
// move was looked at, as when a session is replaced, does not stop the watches.
func TestFolderMovedAndRemoved(t *testing.T) {
	ws := openWatches(slog.New(slog.DiscardHandler))
	if ws.fs == nil {
		t.Fatal("the system gives no notifications")
	}
	defer ws.close()
	dir := t.TempDir()
	old, moved := filepath.Join(dir, "old"), filepath.Join(dir, "moved")
	err := os.Mkdir(old, 0o700)
	if err == nil {
		err = ws.fs.Add(old)
	}
	if err == nil { // this news holds up the rest until it is read
		err = os.WriteFile(filepath.Join(old, "file"), nil, 0o600)
	}
	if err == nil {
		err = os.Rename(old, moved)
	}
	if err == nil {
		err = os.RemoveAll(moved)
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for range ws.events() { // until they are closed
		}
	}()
	var left atomic.Int32
	left.Store(1)
	go func() {
		for left.Load() > 0 {
			left.Store(int32(len(ws.fs.WatchList()))) // which takes the lock that Add takes
		}
	}()
	testwait.Eventually(t, "the watch to be given up", func() bool { return left.Load() == 0 })
	if err := <-ws.errors(); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("the error is %v: another way was taken than the one to be tested", err)
	}
}

// TestExchangedFolders puts a new session in the place of the old one, as
// agent/install does, and removes the old one, before the watcher has heard of it:
// nothing panics, and after the next look what happens is seen.
func TestExchangedFolders(t *testing.T) {
	path := t.TempDir()
	session, staged := filepath.Join(path, "keys", "proxy.test"), filepath.Join(path, "keys", "staged")
	for _, dir := range []string{session, staged} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	ws := openWatches(slog.New(slog.DiscardHandler))
	defer ws.close()
	homes := []*home{{path: path}}
	ws.sync(homes)
	if err := unix.Renameat2(unix.AT_FDCWD, staged, unix.AT_FDCWD, session, unix.RENAME_EXCHANGE); err != nil {
		t.Fatal(err)
	}
	ws.sync(homes)
	if err := os.Remove(staged); err != nil {
		t.Fatal(err)
	}
	ws.sync(homes)
	ws.sync(nil) // panicked
	silence(ws)
	ws.sync(homes)
	sees(t, ws, filepath.Join(session, "alice"))
	ws.sync(nil)
}

// TestExchangedSubfolders: a staged session that was seen takes the place of the old one,
// which is removed, all between two looks. What happens in its subfolders is seen.
func TestExchangedSubfolders(t *testing.T) {
	path := t.TempDir()
	session, staged := filepath.Join(path, "keys", "proxy.test"), filepath.Join(path, "keys", "staged")
	for _, dir := range []string{session, staged} {
		if err := os.MkdirAll(filepath.Join(dir, "cas"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	ws := openWatches(slog.New(slog.DiscardHandler))
	defer ws.close()
	homes := []*home{{path: path}}
	ws.sync(homes)
	err := unix.Renameat2(unix.AT_FDCWD, staged, unix.AT_FDCWD, session, unix.RENAME_EXCHANGE)
	if err == nil {
		err = os.RemoveAll(staged)
	}
	if err != nil {
		t.Fatal(err)
	}
	silence(ws)
	ws.sync(homes)
	silence(ws)
	sees(t, ws, filepath.Join(session, "cas", "extra.pem"))
}

// silence takes notifications until none comes.
func silence(ws *watches) {
	for heard := true; heard; {
		select {
		case <-ws.events():
		case <-time.After(50 * time.Millisecond):
			heard = false
		}
	}
}

// sees has a file made, and waits for a notification.
func sees(t *testing.T, ws *watches, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	select {
	case ev := <-ws.events():
		t.Log(ev)
	case <-time.After(testwait.Patience):
		t.Errorf("%s was not seen", path)
	}
}
