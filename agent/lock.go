package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"berth/internal/paths"
)

// AlreadyRunningError says that another agent serves this user (and this
// BERTH_HOME) already.
type AlreadyRunningError struct {
	PID int // 0 when it could not be read
}

func (e *AlreadyRunningError) Error() string {
	if e.PID == 0 {
		return "an agent is already running"
	}
	return fmt.Sprintf("an agent is already running (pid %d)", e.PID)
}

// lock makes sure that there is one agent for each BERTH_HOME (or user). It ends
// with the last process that has its file open, however that ends: an agent hands
// the open file to its successor.
type lock struct {
	file    io.Closer
	note    string  // the file with the pid
	crashed crashes // agents that left their note behind
	lacks   error   // why folders of berth's files could not be made
}

// errLocked says that another process has the lock.
var errLocked = errors.New("locked by another process")

// takeLock takes the lock, in folders that are there.
func takeLock(p paths.Paths) (*lock, error) {
	file, err := lockFile(p.Lock)
	if errors.Is(err, errLocked) {
		pid := 0
		if raw, err := os.ReadFile(p.LockPID()); err == nil {
			pid, _ = strconv.Atoi(strings.TrimSpace(string(raw)))
		}
		return nil, &AlreadyRunningError{PID: pid}
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", p.Lock, err)
	}
	return &lock{file: file, note: p.LockPID()}, nil
}

// noteOwner notes this process as the one that has the lock, for people and
// commands.
func (l *lock) noteOwner() error {
	if err := os.WriteFile(l.note, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return fmt.Errorf("note pid: %w", err)
	}
	return nil
}

// release gives the lock back.
func (l *lock) release() {
	_ = os.Remove(l.note)
	unlock(l.file)
	l.pass()
}

// pass closes the lock here; a process that has its file too keeps it.
func (l *lock) pass() { _ = l.file.Close() } // the process ends next
