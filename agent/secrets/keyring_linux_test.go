package secrets

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"berth/internal/dbustest"
	"berth/internal/testwait"
)

// A process can use the library's real keychain on one bus only, and not once
// its memory keychain was installed: these tests run copies of themselves.
const copyEnv = "BERTH_TEST_KEYRING"

// patient is the keychain of a machine that may be busy.
func patient(log *slog.Logger) *Store {
	s := New(log)
	s.limit = testwait.Patience
	return s
}

func runCopy(t *testing.T, bus *dbustest.Bus, test string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), copyEnv+"=1", "DBUS_SESSION_BUS_ADDRESS="+bus.Address)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+test)) {
		t.Fatalf("%v\n%s", err, out)
	}
	if bytes.Contains(out, []byte(hunter)) {
		t.Errorf("the secret was printed:\n%s", out)
	}
}

func TestGnomeKeyring(t *testing.T) {
	t.Parallel()
	if os.Getenv(copyEnv) != "" {
		s := patient(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
		roundTrip(t, s)
		if err := s.Set(t.Context(), aliceKey, NewSecret(hunter)); err != nil {
			t.Fatal(err)
		}
		if err := dbustest.LockKeyring(os.Getenv("DBUS_SESSION_BUS_ADDRESS")); err != nil {
			t.Fatal(err)
		}
		testLocked(t, s)
		return
	}
	bus := dbustest.Start(t)
	bus.StartKeyring(t)
	runCopy(t, bus, "TestGnomeKeyring")
}

func testLocked(t *testing.T, s *Store) {
	t.Helper()
	begin := time.Now()
	var locked *LockedError
	if _, err := s.Get(t.Context(), aliceKey); !errors.As(err, &locked) || locked.Asking {
		t.Errorf("Get() = %v, want a LockedError", err)
	}
	if err := s.Set(t.Context(), aliceKey, NewSecret(hunter)); !errors.As(err, &locked) {
		t.Errorf("Set() = %v, want a LockedError", err)
	}
	testwait.Soon(t, "the answer", time.Since(begin), Limit)
	// There is no display for a dialog.
	if err := s.Unlock(t.Context()); !errors.As(err, &locked) {
		t.Errorf("Unlock() = %v, want a LockedError", err)
	}
}

// fakeSecrets is a keyring that is locked, or that takes for ever to unlock.
type fakeSecrets struct {
	conn   *dbus.Conn
	asked  chan struct{} // one for each dialog
	never  chan struct{} // when not nil, what Unlock waits for
	locked atomic.Bool
}

const (
	fakePrompt = secretsPath + "/prompt/1"
	wasAsked   = "WasAsked" // a property that says whether a dialog was asked for
)

func newFakeSecrets(t *testing.T, bus *dbustest.Bus, never chan struct{}) *fakeSecrets {
	t.Helper()
	f := &fakeSecrets{conn: bus.Connect(t, secretsName), asked: make(chan struct{}, 8), never: never}
	for path, iface := range map[dbus.ObjectPath]string{
		secretsPath: "Service", loginCollection: "Collection", fakePrompt: "Prompt",
	} {
		for _, i := range []string{secretsRoot + iface, "org.freedesktop.DBus.Properties"} {
			if err := f.conn.Export(f, path, i); err != nil {
				t.Fatal(err)
			}
		}
	}
	return f
}

func (f *fakeSecrets) Get(_, name string) (dbus.Variant, *dbus.Error) {
	switch name {
	case "Collections":
		return dbus.MakeVariant([]dbus.ObjectPath{loginCollection}), nil
	case wasAsked:
		return dbus.MakeVariant(len(f.asked) > 0), nil
	default:
		return dbus.MakeVariant(f.locked.Load()), nil
	}
}

func (f *fakeSecrets) Unlock([]dbus.ObjectPath) ([]dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	f.asked <- struct{}{}
	if f.never != nil {
		<-f.never
	}
	return nil, fakePrompt, nil
}

// Prompt is answered at once.
func (f *fakeSecrets) Prompt(string) *dbus.Error {
	f.locked.Store(false)
	if err := f.conn.Emit(fakePrompt, secretsRoot+"Prompt.Completed", false, dbus.MakeVariant([]dbus.ObjectPath{loginCollection})); err != nil {
		return dbus.MakeFailedError(err)
	}
	return nil
}

func TestOnlyUnlockShowsADialog(t *testing.T) {
	bus := dbustest.Start(t)
	f := newFakeSecrets(t, bus, nil)
	f.locked.Store(true)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", bus.Address)
	s := patient(slog.New(slog.DiscardHandler))
	var locked *LockedError
	if _, err := s.Get(t.Context(), aliceKey); !errors.As(err, &locked) || locked.Asking {
		t.Errorf("Get() = %v, want a LockedError", err)
	}
	if err := s.Check(t.Context()); !errors.As(err, &locked) {
		t.Errorf("Check() = %v, want a LockedError", err)
	}
	if n := len(f.asked); n != 0 {
		t.Errorf("%d dialogs were shown to a user who may not be there", n)
	}
	if err := s.Unlock(t.Context()); err != nil {
		t.Errorf("Unlock() = %v", err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("Check() after Unlock = %v", err)
	}
	if n := len(f.asked); n != 1 {
		t.Errorf("%d dialogs were shown, want one", n)
	}
}

func TestKeyringThatBlocks(t *testing.T) {
	t.Parallel()
	if os.Getenv(copyEnv) != "" {
		s := New(slog.New(slog.DiscardHandler))
		s.limit = 5 * time.Second // enough to get as far as the dialog, on a busy machine
		var locked *LockedError
		for range 3 {
			begin := time.Now()
			if _, err := s.Get(t.Context(), aliceKey); !errors.As(err, &locked) || !locked.Asking {
				t.Errorf("Get() = %v, want a LockedError that asks", err)
			}
			testwait.Soon(t, "Get()", time.Since(begin), 10*time.Second)
		}
		untilAsked(t)
		fmt.Println("--- PASS: TestKeyringThatBlocks") // the goroutine that hangs would be a leak to goleak
		if !t.Failed() {
			os.Exit(0)
		}
		return
	}
	bus := dbustest.Start(t)
	b := newFakeSecrets(t, bus, make(chan struct{}))
	runCopy(t, bus, "TestKeyringThatBlocks")
	close(b.never)
	if n := len(b.asked); n != 1 {
		t.Errorf("the keyring was asked %d times, want once: each is another dialog", n)
	}
}

// untilAsked waits until the keyring was asked for a dialog: what is still on its way
// there would end with this process.
func untilAsked(t *testing.T) {
	t.Helper()
	conn, err := dbus.Connect(os.Getenv("DBUS_SESSION_BUS_ADDRESS"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // nothing is to be sent any more
	testwait.Eventually(t, "the keyring to be asked", func() bool {
		var asked bool
		return property(t.Context(), conn, secretsPath, "Service", wasAsked, &asked) == nil && asked
	})
}

func TestBusWithoutKeyring(t *testing.T) {
	bus := dbustest.Start(t)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", bus.Address)
	wantNoKeychain(t)
	bus.Stop(t)
	wantNoKeychain(t)
}

func TestNoBus(t *testing.T) {
	folder := t.TempDir()
	launched := folder + "/launched"
	if err := os.WriteFile(folder+"/dbus-launch", fmt.Appendf(nil, "#!/bin/sh\ntouch %s\n", launched), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder+":"+os.Getenv("PATH"))
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "autolaunch:")
	wantNoKeychain(t)
	if _, err := os.Stat(launched); err == nil {
		t.Error("a bus was launched")
	}
}

func wantNoKeychain(t *testing.T) {
	t.Helper()
	s := patient(slog.New(slog.DiscardHandler))
	var missing *NoKeychainError
	begin := time.Now()
	if err := s.Set(t.Context(), aliceKey, NewSecret(hunter)); !errors.As(err, &missing) || strings.Contains(err.Error(), hunter) {
		t.Errorf("Set() = %v, want a NoKeychainError without the secret", err)
	}
	if err := s.Check(t.Context()); !errors.As(err, &missing) || missing.Hint() == "" {
		t.Errorf("Check() = %v, want a NoKeychainError with a hint", err)
	}
	testwait.Soon(t, "the answer", time.Since(begin), Limit)
}
