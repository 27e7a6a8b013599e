package tray

import (
	"context"
	"errors"
	"fmt"

	"berth/notify/prompt"
)

// Prompter asks a person in a window of its own: methods of prompt.Asker.
type Prompter interface {
	Password(ctx context.Context, q prompt.Question) (string, error)
	Code(ctx context.Context, q prompt.Question) (string, error)
	Confirm(ctx context.Context, q prompt.Question) error
}

// confirm asks whether to do what a command would do as well.
func (f *front) confirm(ctx context.Context, q prompt.Question, command string) (bool, error) {
	err := f.Prompter.Confirm(ctx, q)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, prompt.ErrCanceled), ctx.Err() != nil:
		return false, nil
	default:
		return false, fmt.Errorf("it wants to be confirmed: %w; or run \"%s\" in a terminal", err, command)
	}
}
