// Package survive keeps a bug in one piece of work from ending the program. It is
// for work that is tried again, or whose error its caller handles, and that holds no
// mutex but by defer. A panic anywhere else ends the process, and whoever watches it
// starts the next one.
package survive

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
)

// Error says that a bug of this program ended a piece of work.
type Error struct {
	What  string // the work
	Value any    // of the panic
}

// Error names the panic.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: a bug ended it, please report it with the agent's log: %v", e.What, e.Value)
}

// Trap is called ahead of all work with its name, where a test has set it.
var Trap atomic.Pointer[func(what string)]

// Do does some work and returns its error: an *Error, which is logged, if it panics.
func Do(log *slog.Logger, what string, work func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &Error{What: what, Value: r}
			log.Error("[unexpected] panic", "work", what, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
	}()
	if trap := Trap.Load(); trap != nil {
		(*trap)(what)
	}
	return work()
}
