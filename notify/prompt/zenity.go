package prompt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/ncruces/zenity"

	"berth/internal/plain"
	"berth/notify/internal/words"
)

// dialogs draws dialogs with what the desktop has.
type dialogs struct {
	icon string // a PNG file; empty means none
}

// zenity shows a dialog through the library.
func (d dialogs) zenity(ctx context.Context, k kind, q Question) (answer string, err error) {
	options := []zenity.Option{zenity.Context(ctx), zenity.Title(q.Title)}
	if d.icon != "" {
		options = append(options, zenity.WindowIcon(d.icon))
	}
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
	case kindLogin:
		return login(q, options)
	case kindCode:
		answer, err = zenity.Entry(q.Text, options...)
	case kindText:
		answer, err = zenity.Entry(q.Text, append(options, zenity.EntryText(q.Initial))...)
	case kindChoice:
		answer, err = zenity.List(q.Text, q.Choices, options...)
	case kindConfirm:
		err = zenity.Question(q.Text, append(options, zenity.WarningIcon, zenity.DefaultCancel())...)
	case kindReport:
		err = zenity.Question(q.Text, append(options, zenity.InfoIcon, zenity.DefaultCancel())...)
	}
	return answer, ended(err)
}

// The options of a login.
const (
	otherUser = "Log in as another user…"
	keep      = "Remember the password in the keychain"
	keepNot   = "Do not remember the password"
)

// login asks for a password. A third button leads to what else can be chosen:
// the user, and whether the password is kept.
func login(q Question, options []zenity.Option) (string, error) {
	var c Credentials
	for {
		text := q.Text
		if c.User != "" {
			text += "\nUser: " + c.User
		}
		if c.Remember {
			text += "\nThe password is kept in your keychain."
		}
		password, err := zenity.Entry(text, append(options, zenity.HideText(), zenity.ExtraButton("Options…"))...)
		if !errors.Is(err, zenity.ErrExtraButton) {
			c.Password = password
			return c.encode(), ended(err)
		}
		choices := []string{otherUser, keep}
		if c.Remember {
			choices[1] = keepNot
		}
		chosen, err := zenity.List("What do you want?", choices, append(options, zenity.OKLabel("OK"), zenity.CancelLabel("Back"))...)
		if err == nil && chosen == otherUser {
			var user string
			user, err = zenity.Entry("Your Teleport user name",
				append(options, zenity.EntryText(cmp.Or(c.User, q.Initial)), zenity.OKLabel("OK"), zenity.CancelLabel("Back"))...)
			if user = plain.Short(user, maxTitle); err == nil && user != q.Initial {
				c.User = user
			}
		} else if err == nil && chosen != "" {
			c.Remember = chosen == keep
		}
		if err = ended(err); err != nil && !errors.Is(err, ErrCanceled) {
			return "", err
		}
	}
}

// ended is how a dialog of the library's ended.
func ended(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, zenity.ErrCanceled):
		return ErrCanceled
	default:
		return failed("the dialog", err)
	}
}

// failed is the error of a dialog program, with its last words.
func failed(program string, err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return fmt.Errorf("show %s: %w: %s", program, err, words.LastLine(string(exit.Stderr), maxText))
	}
	return fmt.Errorf("show %s: %w", program, err)
}
