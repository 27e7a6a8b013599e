package secrets

import (
	"errors"
	"fmt"
)

// ErrNotStored says that the keychain has no such secret.
var ErrNotStored = errors.New("the keychain has no such secret")

// NoKeychainError says that there is no keychain to keep secrets in.
type NoKeychainError struct{ Err error }

// Error says so, and why.
func (e *NoKeychainError) Error() string {
	return fmt.Sprintf("there is no keychain to keep secrets in: %v", e.Err)
}

// Unwrap returns the reason.
func (e *NoKeychainError) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *NoKeychainError) Hint() string { return noKeychainHint }

// LockedError says that the keychain is locked, or does not answer.
type LockedError struct {
	// Asking reports whether the keychain waits for its password in a dialog.
	Asking bool
	// Err is the keychain's own error; nil when it gave none.
	Err error
}

// Error says which of the two it is.
func (e *LockedError) Error() string {
	switch {
	case e.Asking:
		return "the keychain does not answer; it may be asking for its password in a dialog"
	case e.Err != nil:
		return fmt.Sprintf("the keychain is locked (%v)", e.Err)
	default:
		return "the keychain is locked"
	}
}

// Unwrap returns what the keychain said.
func (e *LockedError) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *LockedError) Hint() string {
	if e.Asking {
		return "answer the dialog, then try again"
	}
	return lockedHint
}

// InvalidError says that something cannot be kept, because of what it is.
type InvalidError struct{ Reason string }

func (e *InvalidError) Error() string { return e.Reason }

func invalid(format string, args ...any) error {
	return &InvalidError{Reason: fmt.Sprintf(format, args...)}
}
