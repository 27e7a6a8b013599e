package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"berth/agent/state"
	"berth/internal/paths"
	"berth/internal/wake"
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

// endingTime is how long an agent that a service manager starts waits for the one
// before it to end, and endingPause how often it looks: locks tell of nothing.
const (
	endingTime  = 3 * time.Second
	endingPause = 10 * time.Millisecond
)

// errLocked says that another process has the lock.
var errLocked = errors.New("locked by another process")

// Lock makes sure that there is one agent for each BERTH_HOME (or user). It ends
// with the last process that has its file open, however that ends: an agent hands
// the open file to its successor, and closes it when that serves.
type Lock struct {
	file    io.Closer
	note    string  // the file with the pid
	crashed crashes // agents that left their note behind
	lacks   error   // why folders of berth's files could not be made
}

// Begin takes the lock of an agent that is the only one, and makes the folders of
// its files. A service manager starts an agent while one is about to end that it did
// not start itself: it kills that one, and does not wait for it. It returns
// AlreadyRunningError when another agent holds the lock.
func Begin(ctx context.Context, p paths.Paths, managed bool, log *slog.Logger) (*Lock, error) {
	lacks := p.MakeFileDirs()
	if err := p.MakeSocketDir(); err != nil {
		return nil, err
	}
	l, err := take(p)
	for ends := time.Now().Add(endingTime); managed && err != nil && time.Now().Before(ends); {
		if _, taken := errors.AsType[*AlreadyRunningError](err); !taken || !wake.Sleep(ctx, endingPause) {
			break
		}
		l, err = take(p)
	}
	if err != nil {
		return nil, err
	}
	if l.crashed, err = noteStart(p, time.Now()); err != nil {
		log.Warn("a crash is not noted", "err", err)
	}
	l.lacks = lacks
	return l, nil
}

// take takes the lock, in folders that are there.
func take(p paths.Paths) (*Lock, error) {
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
	return Inherit(file, p), nil
}

// Inherit is the lock whose open file another process has passed on.
func Inherit(file io.Closer, p paths.Paths) *Lock { return &Lock{file: file, note: p.LockPID()} }

// File is the lock's open file, to be passed on.
func (l *Lock) File() io.Closer { return l.file }

// Calm waits, until ctx ends at most, for as long as crashes before this start ask.
func (l *Lock) Calm(ctx context.Context) { _ = wake.Sleep(ctx, l.crashed.pause()) }

// Problems tells of a loop of crashes until it is over for as long as one counts.
func (l *Lock) Problems(now time.Time) []state.Problem { return l.crashed.problems(now) }

// NoteOwner notes this process as the one that has the lock, for people and
// commands. It fails when that, or anything of berth's, cannot be written.
func (l *Lock) NoteOwner() error {
	if l.lacks != nil {
		return l.lacks
	}
	if err := os.WriteFile(l.note, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return fmt.Errorf("note pid: %w", err)
	}
	return nil
}

// Release gives the lock back.
func (l *Lock) Release() {
	_ = os.Remove(l.note)
	unlock(l.file)
	l.Pass()
}

// Pass closes the lock here; a process that has its file too keeps it.
func (l *Lock) Pass() { _ = l.file.Close() } // nothing was written
