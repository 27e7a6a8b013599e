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
	Login(ctx context.Context, q prompt.Question) (prompt.Credentials, error)
	Text(ctx context.Context, q prompt.Question) (string, error)
	Choose(ctx context.Context, q prompt.Question) (int, error)
	Report(ctx context.Context, q prompt.Question) error
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

// report shows a text of any length: on a page of the window where there is
// one, else in a dialog.
func (f *front) report(ctx context.Context, page, title, text string) {
	f.inWindow(ctx, page, func() { f.showText(ctx, title, text) })
}

// inWindow opens a page of the window; otherwise is called where there is no window, or
// where it does not open.
func (f *front) inWindow(ctx context.Context, page string, otherwise func()) {
	if f.OpenWindow == nil {
		otherwise()
		return
	}
	f.beside(ctx, Action{Do: doOpenWindow, Text: page}, func(ctx context.Context) func() {
		if err := f.OpenWindow(ctx, page); err != nil && ctx.Err() == nil {
			f.Logger.Warn("the window was not opened", "page", page, "err", err)
			return otherwise
		}
		return nil
	})
}

// showText shows a text in a dialog, else, cut, in a notification.
func (f *front) showText(ctx context.Context, title, text string) {
	f.show(ctx, title, text, func() { f.tell(title, text) })
}

// show shows a text in a dialog that scrolls and copies; otherwise is called
// where there are no dialogs.
func (f *front) show(ctx context.Context, title, text string, otherwise func()) {
	f.beside(ctx, Action{Do: doTell, Title: title}, func(ctx context.Context) func() {
		err := f.Prompter.Report(ctx, prompt.Question{Title: title, Text: text, OK: "Copy", Cancel: "Close"})
		if _, none := errors.AsType[*prompt.UnavailableError](err); none {
			return otherwise
		}
		if err == nil {
			err = f.Copy(ctx, text)
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, prompt.ErrCanceled) && !errors.Is(err, context.DeadlineExceeded) {
			return func() { f.tell("Nothing was copied", sentence(err)) }
		}
		return nil
	})
}
