package prompt

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/ncruces/zenity"

	"berth/notify/internal/words"
)

// zenityDialog shows a dialog through the library.
func zenityDialog(ctx context.Context, k kind, q Question) (answer string, err error) {
	options := []zenity.Option{zenity.Context(ctx), zenity.Title(q.Title)}
	if q.OK != "" {
		options = append(options, zenity.OKLabel(q.OK))
	}
	if q.Cancel != "" {
		options = append(options, zenity.CancelLabel(q.Cancel))
	}
	switch k {
	case kindPassword:
		// Not the library's own password dialog: it leaves out the text.
		answer, err = zenity.Entry(q.Text, append(options, zenity.HideText())...)
	case kindCode:
		answer, err = zenity.Entry(q.Text, options...)
	case kindConfirm:
		err = zenity.Question(q.Text, append(options, zenity.WarningIcon, zenity.DefaultCancel())...)
	}
	if errors.Is(err, zenity.ErrCanceled) {
		return "", ErrCanceled
	}
	if err != nil {
		return "", failed("the dialog", err)
	}
	return answer, nil
}

// failed is the error of a dialog program, with its last words.
func failed(program string, err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return fmt.Errorf("show %s: %w: %s", program, err, words.LastLine(string(exit.Stderr), maxText))
	}
	return fmt.Errorf("show %s: %w", program, err)
}
