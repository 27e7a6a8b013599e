package tray

import (
	"context"
	"errors"
)

// Prompter asks a person in a window of its own. Each method returns when it is
// answered, or as soon as ctx ends.
type Prompter interface {
	// Secret asks for a password or a code; ErrDismissed says that the person
	// does not want to give it.
	Secret(ctx context.Context, title, text string) (string, error)
	// Confirm reports whether the person agrees; yes is what the button for it
	// says.
	Confirm(ctx context.Context, title, text, yes string) (bool, error)
}

// ErrDismissed says that a person closed a dialog without an answer.
var ErrDismissed = errors.New("the dialog was closed")

// secret asks for a secret.
func (f *front) secret(ctx context.Context, title, text string) (string, error) {
	if f.Prompter == nil {
		return "", errors.New("it asks for a secret and there is no program for dialogs here: run \"berth login\" in a terminal")
	}
	return f.Prompter.Secret(ctx, title, text)
}

// confirm asks whether to do what a command would do as well.
func (f *front) confirm(ctx context.Context, title, text, yes, command string) (bool, error) {
	if f.Prompter == nil {
		return false, errors.New("it wants to be confirmed and there is no program for dialogs here: run \"" + command + "\" in a terminal")
	}
	return f.Prompter.Confirm(ctx, title, text, yes)
}
