package config

import (
	"bytes"
	"fmt"
	"os"

	"berth/internal/shell"
)

// LostError says that the config file is gone or was emptied, while there is a copy of
// what it said last.
type LostError struct {
	Path, Copy string
	Gone       bool
}

func (e *LostError) Error() string {
	if e.Gone {
		return fmt.Sprintf("%s is gone; what it said last is in %s", e.Path, e.Copy)
	}
	return fmt.Sprintf("%s is empty; what it said last is in %s", e.Path, e.Copy)
}

// NextStep is what a person can do.
func (e *LostError) NextStep() string {
	return fmt.Sprintf("to have it back: %s; to begin anew, write version: 1 into it", shell.Quote("cp", e.Copy, e.Path))
}

// CheckLost returns a *LostError if the config file at path says nothing, and the copy
// does. A full disk, or an editor that was interrupted, leaves such files.
func CheckLost(path, lastGood string) error {
	text, err := os.ReadFile(path)
	if len(bytes.TrimSpace(text)) > 0 || err != nil && !os.IsNotExist(err) || !hasText(lastGood) {
		return nil //nolint:nilerr // whoever reads it says what is wrong with it
	}
	return &LostError{Path: path, Copy: lastGood, Gone: err != nil}
}

// hasText reports whether a file has more than blanks.
func hasText(path string) bool {
	text, err := os.ReadFile(path)
	return err == nil && len(bytes.TrimSpace(text)) > 0
}
