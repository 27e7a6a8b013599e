package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
)

// Exit codes: scripts depend on them. A command cut short by a signal ends
// with 128 and the signal's number, "berth exec" with its program's own code.
const (
	exitFailed          = 1
	exitUsage           = 2
	exitAgentNotRunning = 3
	exitLoginNeeded     = 4
)

var (
	// errSilent is wrapped by errors that were printed already.
	errSilent = errors.New("printed already")
	// errLoginNeeded is wrapped by errors that a login would resolve.
	errLoginNeeded = errors.New("login needed")
)

// usageError is a mistake in how a command was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// hintError adds the next step to an error.
type hintError struct {
	error
	hint string
}

func (e hintError) Unwrap() error { return e.error }

// NextStep is the hint, for the tray, which words errors itself.
func (e hintError) NextStep() string { return e.hint }

func withHint(err error, hint string) error { return hintError{error: err, hint: hint} }

// childError is the end of a program that berth ran, which has said for itself
// what was wrong.
type childError struct{ code int }

func (e childError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

func (e childError) Is(target error) bool { return target == errSilent }

// startError is a program that could not be started.
type startError struct {
	error
	code int
}

func (e startError) Unwrap() error { return e.error }

// complain prints an error, and its next step where it has one.
func (a *app) complain(err error) {
	fmt.Fprintf(a.err, "berth: %s\n", cleanLines(err.Error()))
	if hint := a.nextStep(hintOf(err)); hint != "" {
		fmt.Fprintf(a.err, "berth: hint: %s\n", cleanLines(hint))
	}
}

// aCommand is the last command of berth's in a hint, with the words that lead to it.
var aCommand = regexp.MustCompile(`^(.*?)(?:[,;:]? ?\bor |; )?(?:see |run |try again: |see [a-z ]+: |try )?"?\bberth ([a-z][^",;]*)"?$`)

// nextStep returns a hint without the command that was just run: whoever ran it
// needs another way, or none.
func (a *app) nextStep(hint string) string {
	m := aCommand.FindStringSubmatch(hint)
	if m == nil {
		return hint
	}
	flags, words := sortCommand(strings.Fields(m[2]))
	ranFlags, ranWords := sortCommand(a.args)
	missing := slices.ContainsFunc(words, func(w string) bool { return !slices.Contains(ranWords, w) })
	if missing || !slices.Equal(flags, ranFlags) {
		return hint
	}
	return strings.TrimRight(m[1], " ,;")
}

// sortCommand splits a command's words from its flags, which come in any order;
// one that only changes how the output looks does not count.
func sortCommand(args []string) (flags, words []string) {
	for _, arg := range args {
		switch name, value, _ := strings.Cut(arg, "="); {
		case arg == "--", arg == "--json":
		case strings.HasPrefix(arg, "-"):
			if flags = append(flags, name); value != "" {
				words = append(words, value)
			}
		default:
			words = append(words, arg)
		}
	}
	slices.Sort(flags)
	return flags, words
}

func hintOf(err error) string {
	var rpc *client.Error
	var step interface{ NextStep() string }
	switch {
	case errors.As(err, &step):
		return step.NextStep()
	case errors.Is(err, client.ErrNotRunning):
		return `start it with "berth agent install", or in this terminal with "berth agent run"`
	case errors.As(err, &rpc):
		return rpc.Hint
	default:
		return ""
	}
}

func exitCode(err error) int {
	var (
		usage usageError
		child childError
		start startError
		rpc   *client.Error
	)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &child):
		return child.code
	case errors.As(err, &start):
		return start.code
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, client.ErrNotRunning):
		return exitAgentNotRunning
	case errors.Is(err, errLoginNeeded), errors.Is(err, client.ErrLoginNeeded):
		return exitLoginNeeded
	case errors.As(err, &rpc) && rpc.Code == ipc.CodeInvalid:
		return exitUsage
	default:
		return exitFailed
	}
}

// ignoreStop makes it a success when a command that runs until it is stopped
// was stopped.
func ignoreStop(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
