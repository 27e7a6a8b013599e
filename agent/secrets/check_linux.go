package secrets

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"

	"berth/internal/busaddr"
)

const (
	noKeychainHint = "install and start a keyring (gnome-keyring, KWallet or KeePassXC) and log in to the desktop again, " +
		"or go on typing the password"
	lockedHint = "unlock the keyring of your desktop, then try again"

	secretsName = "org.freedesktop.secrets"
	secretsPath = dbus.ObjectPath("/org/freedesktop/secrets")
	secretsRoot = "org.freedesktop.Secret."

	// Where the library keeps secrets: in the first if there is one.
	loginCollection   = secretsPath + "/collection/login"
	defaultCollection = secretsPath + "/aliases/default"
)

// check looks at the Secret Service over a connection of its own. The library
// would launch a bus where there is none, and show a dialog and wait for it
// where the keyring is locked.
func check(ctx context.Context, unlock bool) error {
	address, err := busaddr.Session()
	if err != nil {
		return &NoKeychainError{Err: err}
	}
	conn, err := dbus.Connect(address, dbus.WithContext(ctx))
	if err != nil {
		return &NoKeychainError{Err: fmt.Errorf("connect to the session bus: %w", err)}
	}
	defer conn.Close() //nolint:errcheck // nothing is to be sent any more
	collection := loginCollection
	var collections []dbus.ObjectPath
	err = property(ctx, conn, secretsPath, "Service", "Collections", &collections)
	if err != nil {
		if said := classifySystem(err); said != nil {
			return said
		}
		return fmt.Errorf("ask the keyring: %w", err)
	}
	if !slices.Contains(collections, collection) {
		collection = defaultCollection
	}
	var locked bool
	if err := property(ctx, conn, collection, "Collection", "Locked", &locked); err != nil {
		return nil //nolint:nilerr // there is none yet; the first secret makes one
	}
	switch {
	case !locked:
		return nil
	case !unlock:
		return &LockedError{}
	default:
		return unlockCollection(ctx, conn, collection)
	}
}

func property(ctx context.Context, conn *dbus.Conn, path dbus.ObjectPath, iface, name string, v any) error {
	var value dbus.Variant
	err := conn.Object(secretsName, path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0,
		secretsRoot+iface, name).Store(&value)
	if err != nil {
		return err
	}
	return value.Store(v)
}

// unlockCollection has the keyring ask the user for its password, and waits for
// the answer.
func unlockCollection(ctx context.Context, conn *dbus.Conn, collection dbus.ObjectPath) error {
	var unlocked []dbus.ObjectPath
	var prompt dbus.ObjectPath
	err := conn.Object(secretsName, secretsPath).CallWithContext(ctx, secretsRoot+"Service.Unlock", 0,
		[]dbus.ObjectPath{collection}).Store(&unlocked, &prompt)
	if err != nil {
		return &LockedError{Err: err}
	}
	if prompt == "/" {
		return nil
	}
	if err := conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(secretsName), dbus.WithMatchObjectPath(prompt)); err != nil {
		return &LockedError{Err: err}
	}
	signals := make(chan *dbus.Signal, 4)
	conn.Signal(signals)
	if err := conn.Object(secretsName, prompt).CallWithContext(ctx, secretsRoot+"Prompt.Prompt", 0, "").Err; err != nil {
		return &LockedError{Err: err}
	}
	for {
		select {
		case s, ok := <-signals:
			if !ok {
				return &LockedError{Err: errors.New("the keyring has gone")}
			}
			if s.Path != prompt || s.Name != secretsRoot+"Prompt.Completed" || len(s.Body) == 0 {
				continue
			}
			var still bool
			if err := property(ctx, conn, collection, "Collection", "Locked", &still); err != nil || still {
				return &LockedError{Err: errors.New("the dialog was dismissed, or could not be shown")}
			}
			return nil
		case <-ctx.Done():
			return &LockedError{Asking: true}
		}
	}
}

// classifySystem recognises what the Secret Service says; nil means that it does
// not.
func classifySystem(err error) error {
	if said, ok := errors.AsType[dbus.Error](err); ok {
		for _, missing := range []string{"ServiceUnknown", "NameHasNoOwner", "Disconnected", "NoServer", "Spawn."} {
			if strings.HasPrefix(said.Name, "org.freedesktop.DBus.Error."+missing) {
				return &NoKeychainError{Err: err}
			}
		}
		if said.Name == secretsRoot+"Error.IsLocked" {
			return &LockedError{Err: err}
		}
	}
	// The library has no type for it.
	if strings.Contains(err.Error(), "failed to unlock correct collection") {
		return &LockedError{}
	}
	return nil
}
