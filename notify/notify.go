package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"berth/internal/plain"
	"berth/notify/internal/words"
)

// Urgency is how much a notification may disturb.
type Urgency int

// The urgencies. The zero value is UrgencyNormal.
const (
	UrgencyLow      Urgency = iota - 1 // goes away soon
	UrgencyNormal                      // stays as long as the desktop finds right
	UrgencyCritical                    // stays until it is dealt with
)

// DefaultKey is the key of the action that a click on the text stands for: that of the
// first button, whose key comes back. Its label is seen where desktops make a button
// of it.
const DefaultKey = "default"

// Action is a button.
type Action struct {
	// Key comes back when the button is pressed. It should name exactly what is
	// to be done, since a click may be older than the words on the screen.
	Key string
	// Label is the button's text.
	Label string
}

// Notification is one message.
type Notification struct {
	// ID names the subject of the notification; showing the same ID again replaces it.
	ID string
	// Title is a few words and Body a sentence or two, both plain text.
	Title, Body string
	Urgency     Urgency
	// Actions are the buttons, the most important one first. Desktops show two
	// or three; none may show any.
	Actions []Action
	// Group is a word for the kind of message, such as "session"; empty means none.
	Group string
}

func (n Notification) equal(o Notification) bool {
	return n.ID == o.ID && n.Title == o.Title && n.Body == o.Body && n.Urgency == o.Urgency &&
		n.Group == o.Group && slices.Equal(n.Actions, o.Actions)
}

// Capabilities describes what can be shown at the moment.
type Capabilities struct {
	Backend string // "dbus", "toast" or "usernotifications"
	// Server names the service that draws, as it calls itself; empty means that
	// none is known to run.
	Server  string
	Actions bool // buttons are shown and answer
	Replace bool // what is shown can be replaced and withdrawn
	// Plain says that messages go out without buttons, by the last resort.
	Plain bool
	// Problem is why there is no service, with what to do about it; nil means
	// that there is one.
	Problem error
}

// Notifier shows notifications.
type Notifier interface {
	// Show shows n, or replaces what is shown under its ID, and returns once it
	// is on its way to the screen. It waits for Run to have started and, when
	// many come at once, for its turn. Words that are on the screen already are
	// not shown again. An error means that the user has not seen n; it is shown
	// nevertheless when a notification service turns up.
	Show(ctx context.Context, n Notification) error
	// Close withdraws what is shown under the ID, if anything is.
	Close(id string)
	// Capabilities returns what can be shown at the moment.
	Capabilities() Capabilities
	// Run works until ctx ends, withdraws what is shown and returns nil.
	Run(ctx context.Context) error
}

// ErrUnavailable says that nothing here shows notifications.
var ErrUnavailable = errors.New("nothing here shows notifications: " + remedy)

// ErrTooMany says that too many notifications are on the screen or waiting.
var ErrTooMany = fmt.Errorf("more than %d notifications at once: close some first", maxOpen)

// ErrStopped says that Run has returned.
var ErrStopped = errors.New("notifications have been stopped")

// Config says how to show notifications.
type Config struct {
	// Logger receives what goes wrong. It must be set.
	Logger *slog.Logger
	// AppName is the program's name as people see it; empty means "berth".
	AppName string
	// DesktopEntry is the name of the desktop entry that the notifications
	// belong to, without ".desktop"; empty means none. Linux only.
	DesktopEntry string
	// Icon is a PNG picture; nil means none.
	Icon []byte
	// OnAction is called for each press of a button, one after the other. It
	// must return soon, and check the current state before it acts: the reason
	// for the button may be gone. nil means that presses are ignored.
	OnAction func(id, key string)
	// OnClosed is called for each notification that the user closed without an
	// action. It must return soon. nil means that closings are ignored.
	OnClosed func(id string)
	// StateFile is where the Notifier remembers what is on the screen, so that
	// the next process can replace and withdraw it after this one was killed.
	// Empty means nowhere. Linux only.
	StateFile string
	// AppID is the AppUserModelID; empty means "Berth.Agent". Windows only.
	AppID string
	// Launch is the program and the arguments that Windows runs when a button is
	// pressed and no process of ours is there; " -Embedding" is appended. Nil
	// means none. Windows only.
	Launch []string
}

// New returns the Notifier of this system. It starts nothing: Run does.
func New(cfg Config) Notifier {
	if cfg.Logger == nil {
		panic("notify: no Logger")
	}
	if cfg.AppName == "" {
		cfg.AppName = "berth"
	}
	if cfg.OnAction == nil {
		cfg.OnAction = func(string, string) {}
	}
	if cfg.OnClosed == nil {
		cfg.OnClosed = func(string) {}
	}
	cfg.Logger = cfg.Logger.With("component", "notify")
	return newNotifier(cfg, newBackend(cfg))
}

const (
	maxKey   = 1024 // bytes of an ID or a key
	maxTitle = 100  // columns
	maxBody  = 320
	maxLabel = 40
	maxLines = 6
	maxCards = 5 // actions of one notification
)

// clean returns n with text that is safe to hand to any desktop. What is an
// error is a mistake of the caller.
func clean(n Notification, appName string) (Notification, error) {
	if err := checkKey(n.ID); err != nil {
		return n, fmt.Errorf("notification ID: %w", err)
	}
	n.Title = plain.Short(n.Title, maxTitle)
	if n.Title == "" {
		n.Title = appName
	}
	n.Body = words.Lines(n.Body, maxBody, maxLines)
	n.Group = words.Slug(n.Group)
	n.Urgency = min(max(n.Urgency, UrgencyLow), UrgencyCritical)
	actions := make([]Action, 0, min(len(n.Actions), maxCards))
	for _, a := range n.Actions {
		if err := checkKey(a.Key); err != nil {
			return n, fmt.Errorf("action of notification %q: %w", n.ID, err)
		}
		if slices.ContainsFunc(actions, func(o Action) bool { return o.Key == a.Key }) {
			return n, fmt.Errorf("action %q of notification %q is there twice", a.Key, n.ID)
		}
		if len(actions) == maxCards {
			break
		}
		if a.Label = plain.Short(a.Label, maxLabel); a.Label == "" {
			a.Label = plain.Short(a.Key, maxLabel)
		}
		actions = append(actions, a)
	}
	n.Actions = actions
	return n, nil
}

func checkKey(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > maxKey:
		return fmt.Errorf("has %d bytes, more than %d", len(s), maxKey)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%q is not plain text", s)
	}
	return nil
}

// buttons splits the actions into up to limit buttons and the one behind the
// text, if there is one.
func (n Notification) buttons(limit int) (buttons []Action, text *Action) {
	for i, a := range n.Actions {
		switch {
		case a.Key == DefaultKey:
			text = &n.Actions[i]
		case len(buttons) < limit:
			buttons = append(buttons, a)
		}
	}
	return buttons, text
}

// textKey is the key that a click on the text comes back as; DefaultKey where there is
// no button.
func (n Notification) textKey() string {
	for _, a := range n.Actions {
		if a.Key != DefaultKey {
			return a.Key
		}
	}
	return DefaultKey
}
