package secrets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/zalando/go-keyring"
)

// Kind says what a secret is for.
type Kind string

// The kinds of secrets.
const (
	Password Kind = "password"
	TOTP     Kind = "totp"    // the seed of one-time codes
	KubeCA   Kind = "kube-ca" // the key of the CA that local clients of Kubernetes trust
)

// Key names a secret.
type Key struct {
	Proxy string // host:port; empty for a KubeCA
	User  string // of Teleport; empty for a KubeCA
	Kind  Kind
	CA    string // which CA a KubeCA is the key of; empty for all else
}

// Limits are far below what any of the keychains takes: Windows has 2,560 bytes
// for a secret and 513 characters for its name, macOS 3,000 for both.
const (
	maxSecret = 1024
	maxName   = 200
)

// service is the name under which the keychain files berth's secrets.
const service = "berth"

// account is the secret's name in the keychain.
func (k Key) account() (string, error) {
	switch k.Kind {
	case Password, TOTP:
	case KubeCA:
		if k.CA == "" || len(k.CA) > maxName || !printable(k.CA) {
			return "", invalid("no key can be kept for a CA of that name")
		}
		return string(k.Kind) + " " + k.CA, nil
	default:
		return "", invalid("%q is no kind of secret", k.Kind)
	}
	for what, name := range map[string]string{"proxy": k.Proxy, "user": k.User} {
		if name == "" {
			return "", invalid("a secret is kept for a %s, and there is none", what)
		}
		if len(name) > maxName || !printable(name) || what == "proxy" && strings.ContainsAny(name, "@ ") {
			return "", invalid("no secret can be kept for a %s of that name", what)
		}
	}
	return string(k.Kind) + " " + k.User + "@" + k.Proxy, nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Limit bounds each call but Unlock. It is not a constant because a slow keychain is no
// locked one to tests on a busy machine.
var Limit = 3 * time.Second

// keychain is the operating system's store of secrets.
type keychain struct {
	// check returns nil, a *NoKeychainError or a *LockedError; it makes no
	// dialog appear. With unlock one may.
	check func(ctx context.Context, unlock bool) error
	set   func(service, account, secret string) error
	get   func(service, account string) (string, error)
	del   func(service, account string) error
	// delAll forgets all of a service; none is no error.
	delAll func(service string) error
}

// Store is the user's keychain. Make one with [New]; several would get into each
// other's way.
type Store struct {
	log      *slog.Logger
	keychain keychain
	limit    time.Duration
	turn     chan struct{} // capacity 1: held by the call under way
	stuck    atomic.Bool   // the call under way has taken too long
}

// New returns the user's keychain. It is not touched before the first call.
func New(log *slog.Logger) *Store {
	return &Store{
		log: log.With("component", "secrets"), limit: Limit, turn: make(chan struct{}, 1),
		keychain: keychain{check: check, set: keyring.Set, get: keyring.Get, del: keyring.Delete, delAll: keyring.DeleteAll},
	}
}

// Get returns a secret, or ErrNotStored, a *LockedError or a *NoKeychainError.
func (s *Store) Get(ctx context.Context, k Key) (Secret, error) {
	account, err := k.account()
	if err != nil {
		return Secret{}, err
	}
	got := make(chan string, 1)
	err = s.do(ctx, "read", s.limit, false, func() error {
		text, err := s.keychain.get(service, account)
		got <- text
		return err
	})
	if err != nil {
		return Secret{}, err
	}
	return NewSecret(<-got), nil
}

// Set keeps a secret in place of the one before. What cannot be one is refused
// with an *InvalidError. A keychain that does not answer in time may still take
// the secret when it does.
func (s *Store) Set(ctx context.Context, k Key, secret Secret) error {
	account, err := k.account()
	if err != nil {
		return err
	}
	text := secret.Reveal()
	if k.Kind == TOTP {
		seed, err := ParseSeed(text)
		if err != nil {
			return err
		}
		text = seed.uri()
	}
	switch {
	case text == "":
		return invalid("an empty %s is not kept", k.Kind)
	case len(text) > maxSecret:
		return invalid("a %s of more than %d bytes is not kept", k.Kind, maxSecret)
	case strings.ContainsFunc(text, unicode.IsControl) || !utf8.ValidString(text):
		return invalid("a %s with control characters is not kept: it could not be typed", k.Kind)
	}
	return s.do(ctx, "write", s.limit, false, func() error { return s.keychain.set(service, account, text) })
}

// Delete forgets a secret. To delete a missing secret is no error.
func (s *Store) Delete(ctx context.Context, k Key) error {
	account, err := k.account()
	if err != nil {
		return err
	}
	err = s.do(ctx, "delete from", s.limit, false, func() error { return s.keychain.del(service, account) })
	if errors.Is(err, ErrNotStored) {
		return nil
	}
	return err
}

// DeleteAll forgets everything that berth ever kept in this keychain, also for
// agents of other BERTH_HOMEs. It is for uninstalling.
func (s *Store) DeleteAll(ctx context.Context) error {
	return s.do(ctx, "empty", s.limit, false, func() error { return s.keychain.delAll(service) })
}

// Check reports what would keep a secret from being kept.
func (s *Store) Check(ctx context.Context) error {
	return s.do(ctx, "look at", s.limit, false, func() error { return nil })
}

// Unlock has the keychain ask for its password where it is locked, and waits
// for as long as ctx lasts. Call it only while a user is present.
func (s *Store) Unlock(ctx context.Context) error {
	return s.do(ctx, "unlock", 0, true, func() error { return nil })
}

// do calls f when no other call runs. A call that hangs keeps its turn until it
// returns, and until then further calls fail at once as locked.
func (s *Store) do(ctx context.Context, what string, limit time.Duration, unlock bool, f func() error) error {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, &LockedError{Asking: true})
		defer cancel()
	}
	if s.stuck.Load() {
		return &LockedError{Asking: true}
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	go func() {
		defer func() { s.stuck.Store(false); <-s.turn }()
		err := s.keychain.check(ctx, unlock)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil && ctx.Err() != nil { // of its end, whatever became of the call
			return context.Cause(ctx)
		}
		return s.classify(what, err)
	case <-ctx.Done():
		s.stuck.Store(true)
		select {
		case <-done: // just now
			s.stuck.Store(false)
		default: // f's goroutine is yet to come to its end, and clears it there
		}
		s.log.Warn("the keychain does not answer", "call", what)
		return context.Cause(ctx)
	}
}

// classify turns what a keychain says into the errors of this package.
func (s *Store) classify(what string, err error) error {
	var missing *NoKeychainError
	var locked *LockedError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, keyring.ErrNotFound):
		return ErrNotStored
	case errors.Is(err, keyring.ErrUnsupportedPlatform):
		return &NoKeychainError{Err: err}
	case errors.As(err, &missing), errors.As(err, &locked):
		s.log.Debug("keychain refused", "call", what, "err", err)
		return err
	}
	if said := classifySystem(err); said != nil {
		return said
	}
	return fmt.Errorf("%s the keychain: %w", what, err)
}
