package prompt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"berth/internal/plain"
	"berth/notify/internal/words"
)

// ErrCanceled says that the person does not want to, or said no.
var ErrCanceled = errors.New("canceled in the dialog")

// errBusy says that too many dialogs are waiting already.
var errBusy = fmt.Errorf("more than %d dialogs wait: answer the open one first", maxWaiting)

// UnavailableError says that no dialog can be shown.
type UnavailableError struct {
	Reason string // why
	Hint   string // what to do about it
}

func (e *UnavailableError) Error() string { return "no dialog can be shown: " + e.Reason }

// Question is the text of a dialog. It may come from other people: it is shown
// as plain text, and cut.
type Question struct {
	// Title is the window's, and says what the question is about: some systems
	// leave little room for Text.
	Title string
	// Text is a sentence or two.
	Text string
	// OK and Cancel are the buttons; empty means the desktop's own.
	OK, Cancel string
	// Initial is what stands in the field of Text at first, and whom Login names.
	Initial string
	// Choices are the lines of Choose.
	Choices []string
}

// Credentials is what a person typed to log in.
type Credentials struct {
	User     string // empty: the one who was named
	Password string
	Remember bool // the password is to be kept
}

// Config says how to ask.
type Config struct {
	// Logger receives that a dialog opened and how it ended. It must be set.
	Logger *slog.Logger
	// Limit is how long a dialog stays open; zero means five minutes.
	Limit time.Duration
	// Icon is a PNG file for the dialogs' windows; empty means none.
	Icon string
}

const (
	defaultLimit = 5 * time.Minute
	reportLimit  = time.Hour
	maxWaiting   = 8
	maxTitle     = 80 // columns
	maxText      = 400
	maxLines     = 6
	maxButton    = 30
	maxAnswer    = 4 << 10 // bytes
	maxReport    = 64 << 10
	maxChoices   = 100
)

// fieldEnd separates the fields of an encoded answer. It cannot be typed.
const fieldEnd = "\x1f"

// kind says what a dialog asks for.
type kind string

const (
	kindPassword kind = "password"
	kindCode     kind = "code"
	kindConfirm  kind = "confirm"
	kindText     kind = "text"
	kindChoice   kind = "choice"
	kindLogin    kind = "login"
	kindReport   kind = "report"
)

// Asker asks. Its methods may be called at the same time.
type Asker struct {
	log   *slog.Logger
	limit time.Duration
	turn  chan struct{} // holds a value while a dialog is open
	queue chan struct{} // holds a value for each that is open or waits

	show      func(context.Context, kind, Question) (string, error)
	available func() error
}

// New returns an Asker for this desktop.
func New(cfg Config) *Asker {
	if cfg.Logger == nil {
		panic("prompt: no Logger")
	}
	if cfg.Limit == 0 {
		cfg.Limit = defaultLimit
	}
	return &Asker{
		log: cfg.Logger.With("component", "prompt"), limit: cfg.Limit,
		turn: make(chan struct{}, 1), queue: make(chan struct{}, maxWaiting+1),
		show: dialogs{icon: cfg.Icon}.show, available: available,
	}
}

// Available returns nil when dialogs can be shown, else an *UnavailableError.
func (a *Asker) Available() error { return a.available() }

// Password asks for a password, which is not shown while it is typed.
func (a *Asker) Password(ctx context.Context, q Question) (string, error) {
	return a.ask(ctx, kindPassword, q)
}

// Code asks for a one-time code.
func (a *Asker) Code(ctx context.Context, q Question) (string, error) {
	return a.ask(ctx, kindCode, q)
}

// Confirm asks whether to go on; nil means yes and ErrCanceled means no, the
// desktop's default button.
func (a *Asker) Confirm(ctx context.Context, q Question) error {
	_, err := a.ask(ctx, kindConfirm, q)
	return err
}

// Text asks for a line of text that is no secret.
func (a *Asker) Text(ctx context.Context, q Question) (string, error) {
	answer, err := a.ask(ctx, kindText, q)
	return strings.TrimSpace(answer), err
}

// Choose asks for one of the question's choices, and returns its place in them.
func (a *Asker) Choose(ctx context.Context, q Question) (int, error) {
	answer, err := a.ask(ctx, kindChoice, q)
	if err != nil {
		return 0, err
	}
	if i := slices.Index(clean(q).Choices, strings.TrimSpace(answer)); i >= 0 {
		return i, nil
	}
	return 0, ErrCanceled // nothing was chosen
}

// Login asks for a password. Except with kdialog, it lets the person name
// another user than Initial and have the password kept.
func (a *Asker) Login(ctx context.Context, q Question) (Credentials, error) {
	answer, err := a.ask(ctx, kindLogin, q)
	if err != nil {
		return Credentials{}, err
	}
	return decode(answer), nil
}

// encode writes what was typed as the one answer of a dialog.
func (c Credentials) encode() string {
	remember := ""
	if c.Remember {
		remember = "remember"
	}
	return strings.Join([]string{c.User, remember, c.Password}, fieldEnd)
}

// decode reads what encode wrote, or a password alone.
func decode(answer string) Credentials {
	fields := strings.SplitN(answer, fieldEnd, 3)
	if len(fields) < 3 {
		return Credentials{Password: answer}
	}
	return Credentials{User: fields[0], Remember: fields[1] != "", Password: fields[2]}
}

// Report shows a text of any length, which can be scrolled. It returns nil when
// the person wants it copied, and ErrCanceled when they have closed it.
func (a *Asker) Report(ctx context.Context, q Question) error {
	_, err := a.ask(ctx, kindReport, q)
	return err
}

// ask opens the dialog when it is its turn. It returns the person's answer,
// ErrCanceled, errBusy, an *UnavailableError, or why ctx or the time limit
// ended it.
func (a *Asker) ask(ctx context.Context, k kind, q Question) (string, error) {
	if err := a.available(); err != nil {
		return "", err
	}
	select {
	case a.queue <- struct{}{}:
		defer func() { <-a.queue }()
	default:
		return "", errBusy
	}
	if k != kindReport { // which asks nothing, and may be read for long
		select {
		case a.turn <- struct{}{}:
			defer func() { <-a.turn }()
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	limit := a.limit
	if k == kindReport {
		limit = max(limit, reportLimit)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := ctx.Err(); err != nil { // both were ready
		return "", err
	}
	a.log.Debug("dialog opened", "kind", k)
	cleaned := clean(q)
	if k == kindReport {
		cleaned.Text = plain.Text(cutBytes(q.Text, maxReport))
	}
	answer, err := a.show(ctx, k, cleaned)
	if ctx.Err() != nil {
		err = ctx.Err() // whatever the dialog says about being closed
	}
	if err == nil && len(answer) > maxAnswer && k != kindReport {
		err = fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	if err != nil {
		a.log.Debug("dialog ended without an answer", "kind", k, "err", err)
		return "", err
	}
	a.log.Debug("dialog answered", "kind", k)
	return answer, nil
}

func clean(q Question) Question {
	var choices []string
	for _, c := range q.Choices[:min(len(q.Choices), maxChoices)] {
		choices = append(choices, plain.Short(c, maxTitle))
	}
	return Question{
		Initial: plain.Short(q.Initial, maxTitle), Choices: choices,
		Title:  plain.Short(q.Title, maxTitle),
		Text:   words.Lines(q.Text, maxText, maxLines),
		OK:     plain.Short(q.OK, maxButton),
		Cancel: plain.Short(q.Cancel, maxButton),
	}
}

// cutBytes returns the beginning of s, whole characters of at most limit bytes.
func cutBytes(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return plain.Head(s, limit) + "\n…"
}
