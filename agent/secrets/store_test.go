package secrets

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zalando/go-keyring"
)

const hunter = "hunter2 correct horse"

var aliceKey = Key{Proxy: "berth-test.invalid:443", User: "alice", Kind: Password}

// fakeKeychain is a keychain in memory.
type fakeKeychain struct {
	mu       sync.Mutex
	kept     map[string]string
	checkErr error
	err      error
	hold     chan struct{} // when not nil, calls wait for it
	calls    int
	inside   int
	together int // calls at the same time, at most
}

func (f *fakeKeychain) enter() error {
	f.mu.Lock()
	f.calls++
	f.inside++
	f.together = max(f.together, f.inside)
	hold, err := f.hold, f.err
	f.mu.Unlock()
	if hold != nil {
		<-hold
	}
	f.mu.Lock()
	f.inside--
	f.mu.Unlock()
	return err
}

func (f *fakeKeychain) store(log *slog.Logger) *Store {
	s := New(log)
	s.keychain = keychain{
		check: func(context.Context, bool) error { f.mu.Lock(); defer f.mu.Unlock(); return f.checkErr },
		set: func(service, account, secret string) error {
			if err := f.enter(); err != nil {
				return err
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.kept[service+"/"+account] = secret
			return nil
		},
		get: func(service, account string) (string, error) {
			if err := f.enter(); err != nil {
				return "", err
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			secret, ok := f.kept[service+"/"+account]
			if !ok {
				return "", keyring.ErrNotFound
			}
			return secret, nil
		},
		del: func(service, account string) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if _, ok := f.kept[service+"/"+account]; !ok {
				return keyring.ErrNotFound
			}
			delete(f.kept, service+"/"+account)
			return nil
		},
		delAll: func(service string) error {
			if err := f.enter(); err != nil {
				return err
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			maps.DeleteFunc(f.kept, func(name, _ string) bool { return strings.HasPrefix(name, service+"/") })
			return nil
		},
	}
	return s
}

func newFake(t *testing.T) (*fakeKeychain, *Store) {
	t.Helper()
	f := &fakeKeychain{kept: make(map[string]string)}
	return f, f.store(slog.New(slog.DiscardHandler))
}

// roundTrip checks all that a store does.
func roundTrip(t *testing.T, s *Store) {
	t.Helper()
	ctx := t.Context()
	if err := s.Check(ctx); err != nil {
		t.Fatalf("Check() = %v", err)
	}
	if _, err := s.Get(ctx, aliceKey); !errors.Is(err, ErrNotStored) {
		t.Fatalf("Get() before anything = %v, want %v", err, ErrNotStored)
	}
	for _, text := range []string{hunter, "pässwörd ✓ with 'quotes' \"and\" $(more)"} {
		if err := s.Set(ctx, aliceKey, NewSecret(text)); err != nil {
			t.Fatalf("Set() = %v", err)
		}
		got, err := s.Get(ctx, aliceKey)
		if err != nil || got.Reveal() != text {
			t.Fatalf("Get() = %q, %v; want %q", got.Reveal(), err, text)
		}
	}
	bob := aliceKey
	bob.User = "bob@example.com"
	mustLack(t, s, bob)
	seed := aliceKey
	seed.Kind = TOTP
	mustLack(t, s, seed)
	if err := s.Set(ctx, seed, NewSecret("gezd gnbv gy3t qojq")); err != nil {
		t.Errorf("Set() of a seed = %v", err)
	}
	if got, err := s.Get(ctx, seed); err != nil {
		t.Errorf("Get() of a seed = %v", err)
	} else if _, err := ParseSeed(got.Reveal()); err != nil {
		t.Errorf("the seed cannot be read again: %v", err)
	}
	for range 2 { // the second time it is not there
		if err := s.Delete(ctx, aliceKey); err != nil {
			t.Errorf("Delete() = %v", err)
		}
	}
	mustLack(t, s, aliceKey)
	if _, err := s.Get(ctx, seed); err != nil {
		t.Errorf("Get() of the seed after the password was deleted = %v", err)
	}
	if err := s.Delete(ctx, seed); err != nil {
		t.Errorf("Delete() of the seed = %v", err)
	}
	everything(t, s)
}

// mustLack checks that a secret is not stored.
func mustLack(t *testing.T, s *Store, k Key) {
	t.Helper()
	if _, err := s.Get(t.Context(), k); !errors.Is(err, ErrNotStored) {
		t.Errorf("Get(%v) = %v, want ErrNotStored", k, err)
	}
}

// everything checks that all kinds of secrets are forgotten together.
func everything(t *testing.T, s *Store) {
	t.Helper()
	ctx := t.Context()
	keys := []Key{aliceKey, {Kind: KubeCA, CA: "0123abcd"}, {Kind: KubeCA, CA: "4567ef"}}
	for i, k := range keys {
		if err := s.Set(ctx, k, NewSecret(fmt.Sprintf("%s %d", hunter, i))); err != nil {
			t.Fatalf("Set(%v) = %v", k, err)
		}
	}
	if got, err := s.Get(ctx, keys[1]); err != nil || got.Reveal() != hunter+" 1" {
		t.Errorf("Get(%v) = %q, %v", keys[1], got.Reveal(), err)
	}
	for range 2 { // the second time there is nothing
		if err := s.DeleteAll(ctx); err != nil {
			t.Errorf("DeleteAll() = %v", err)
		}
	}
	for _, k := range keys {
		mustLack(t, s, k)
	}
}

func TestStore(t *testing.T) {
	_, s := newFake(t)
	roundTrip(t, s)
}

func TestWhatIsNotKept(t *testing.T) {
	f, s := newFake(t)
	long := strings.Repeat("x", maxSecret+1)
	tests := []struct {
		name, secret string
		key          Key
		says         string
	}{
		{"empty", "", aliceKey, "empty"},
		{"too_long", long, aliceKey, "more than 1024 bytes"},
		{"two_lines", hunter + "\nrm -rf", aliceKey, "control characters"},
		{"not_text", hunter + "\xff", aliceKey, "control characters"},
		{"no_proxy", hunter, Key{User: "alice", Kind: Password}, "proxy"},
		{"no_user", hunter, Key{Proxy: "p:443", Kind: Password}, "user"},
		{"user_with_a_newline", hunter, Key{Proxy: "p:443", User: "a\nb", Kind: Password}, "user"},
		{"long_user", hunter, Key{Proxy: "p:443", User: long, Kind: Password}, "user"},
		{"ambiguous_proxy", hunter, Key{Proxy: "b@p:443", User: "a", Kind: Password}, "proxy"},
		{"no_ca", hunter, Key{Kind: KubeCA}, "CA"},
		{"ca_with_a_newline", hunter, Key{Kind: KubeCA, CA: "a\nb"}, "CA"},
		{"no_kind", hunter, Key{Proxy: "p:443", User: "alice"}, "kind"},
		{"no_seed", hunter + "!", Key{Proxy: "p:443", User: "alice", Kind: TOTP}, "no seed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := s.Set(t.Context(), tt.key, NewSecret(tt.secret))
			var refused *InvalidError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Set() = %v, want an InvalidError that says %q", err, tt.says)
			}
			if err != nil && strings.Contains(err.Error(), hunter) {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
	if f.calls != 0 {
		t.Errorf("the keychain was called %d times, want never", f.calls)
	}
}

func TestKeychainThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newFake(t)
		f.hold = make(chan struct{})
		begin := time.Now()
		_, err := s.Get(t.Context(), aliceKey)
		var locked *LockedError
		if !errors.As(err, &locked) || !locked.Asking || time.Since(begin) != Limit {
			t.Fatalf("Get() = %v after %v, want a LockedError that asks after %v", err, time.Since(begin), Limit)
		}
		begin = time.Now()
		for range 10 {
			if err := s.Set(t.Context(), aliceKey, NewSecret(hunter)); !errors.As(err, &locked) {
				t.Errorf("Set() = %v, want a LockedError", err)
			}
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("10 more calls took %v, want no time", took)
		}
		f.mu.Lock()
		calls := f.calls
		f.mu.Unlock()
		if calls != 1 {
			t.Errorf("the keychain was called %d times, want once: each call is another dialog", calls)
		}
		f.mu.Lock()
		close(f.hold)
		f.hold = nil
		f.mu.Unlock()
		synctest.Wait()
		if _, err := s.Get(t.Context(), aliceKey); !errors.Is(err, ErrNotStored) {
			t.Errorf("Get() after the keychain came back = %v, want %v", err, ErrNotStored)
		}
	})
}

func TestOneCallAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newFake(t)
		f.hold = make(chan struct{})
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if err := s.Set(t.Context(), aliceKey, NewSecret(hunter)); err != nil {
					t.Errorf("Set() = %v", err)
				}
			})
		}
		synctest.Wait()
		f.mu.Lock()
		close(f.hold)
		f.mu.Unlock()
		all.Wait()
		if f.together != 1 || f.calls != 20 {
			t.Errorf("%d calls, %d of them together; want 20 and 1", f.calls, f.together)
		}
	})
}

func TestCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newFake(t)
		f.hold = make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Get(ctx, aliceKey); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Get() = %v, want %v", err, context.DeadlineExceeded)
		}
		close(f.hold)
		synctest.Wait()
	})
}

func TestErrorsSayWhatToDo(t *testing.T) {
	tests := []struct {
		name     string
		checkErr error
		err      error
		want     any
		says     string
	}{
		{"locked", &LockedError{}, nil, new(*LockedError), "the keychain is locked"},
		{"missing", &NoKeychainError{Err: errors.New("no bus")}, nil, new(*NoKeychainError), "no keychain to keep secrets in: no bus"},
		{"unsupported", nil, keyring.ErrUnsupportedPlatform, new(*NoKeychainError), "no keychain to keep secrets in"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, s := newFake(t)
			f.checkErr, f.err = tt.checkErr, tt.err
			_, err := s.Get(t.Context(), aliceKey)
			if !errors.As(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Get() = %v, want a %T that says %q", err, tt.want, tt.says)
			}
			var hinter interface{ Hint() string }
			if !errors.As(err, &hinter) || hinter.Hint() == "" {
				t.Errorf("%v has no hint", err)
			}
			if err := s.Set(t.Context(), aliceKey, NewSecret(hunter)); err == nil || strings.Contains(err.Error(), hunter) {
				t.Errorf("Set() = %v, want an error without the secret", err)
			}
			if err := s.DeleteAll(t.Context()); !errors.As(err, tt.want) {
				t.Errorf("DeleteAll() = %v, want a %T", err, tt.want)
			}
		})
	}
	if hint := (&LockedError{Asking: true}).Hint(); !strings.Contains(hint, "dialog") {
		t.Errorf("hint %q does not name the dialog", hint)
	}
}

// TestLibrary goes through the library's own memory keychain.
func TestLibrary(t *testing.T) {
	keyring.MockInit()
	s := New(slog.New(slog.DiscardHandler))
	s.keychain.check = func(context.Context, bool) error { return nil }
	roundTrip(t, s)
	keyring.MockInitWithError(errors.New("out of order"))
	if _, err := s.Get(t.Context(), aliceKey); err == nil || !strings.Contains(err.Error(), "out of order") {
		t.Errorf("Get() = %v, want what the keychain said", err)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	secret := NewSecret(hunter)
	seed, err := ParseSeed("GEZDGNBVGY3TQOJQ")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	type holder struct {
		S Secret
		T *Seed
	}
	for _, v := range []any{secret, &secret, holder{S: secret}, []Secret{secret}, map[string]Secret{"a": secret}, seed, &seed} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, format+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("text", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "v", v)
		if err := json.NewEncoder(&out).Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprintln(&out, secret, seed, secret.String(), seed.String())
	for _, leak := range []string{hunter, fmt.Sprintf("%x", hunter), "GEZDGNBVGY3TQOJQ"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q was printed:\n%s", leak, &out)
		}
	}
}
