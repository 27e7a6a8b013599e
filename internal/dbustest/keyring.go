package dbustest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"berth/internal/testneeds"
	"berth/internal/testwait"
	"berth/internal/wake"
)

const (
	keyringName = "org.freedesktop.secrets"
	keyringPath = dbus.ObjectPath("/org/freedesktop/secrets")
)

// StartKeyring starts an unlocked keyring on the bus, without a display and
// with a home of its own; it ends with the test. Where there is none to start,
// the test is skipped, or fails where the environment says CI.
func (b *Bus) StartKeyring(t testing.TB) {
	t.Helper()
	testneeds.Program(t, KeyringProgram)
	end, err := RunKeyring(t.Context(), b.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
}

// KeyringProgram is what RunKeyring runs.
const KeyringProgram = "gnome-keyring-daemon"

// RunKeyring starts an unlocked keyring, without a display and with a home of its
// own, on the bus at address, and waits until it serves. The function ends it.
func RunKeyring(ctx context.Context, address string) (end func(), err error) {
	home, err := os.MkdirTemp("", "keyring") // short enough for sockets
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), KeyringProgram, "--foreground", "--unlock",
		"--components=secrets", "--control-directory="+home)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_RUNTIME_DIR=" + home,
		"XDG_DATA_HOME=" + home, "DBUS_SESSION_BUS_ADDRESS=" + address,
	}
	cmd.Stdin = strings.NewReader("the keyring's own password")
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(home))
	}
	end = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		_ = os.RemoveAll(home)
	}
	if err := awaitName(ctx, address, keyringName); err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// awaitName waits until a program owns name on the bus at address.
func awaitName(ctx context.Context, address, name string) error {
	conn, err := dbus.Connect(address)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is to be sent any more
	ctx, cancel := context.WithTimeout(ctx, testwait.Patience)
	defer cancel()
	for {
		var owned bool
		if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, name).Store(&owned); err != nil || owned {
			return err
		}
		if !wake.Sleep(ctx, 10*time.Millisecond) {
			return fmt.Errorf("no program owns %s on the bus: %w", name, ctx.Err())
		}
	}
}

// LockKeyring locks the keyring on the bus at address.
func LockKeyring(address string) error {
	conn, err := dbus.Connect(address)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is to be sent any more
	var locked []dbus.ObjectPath
	var prompt dbus.ObjectPath
	err = conn.Object(keyringName, keyringPath).Call("org.freedesktop.Secret.Service.Lock", 0,
		[]dbus.ObjectPath{keyringPath + "/collection/login"}).Store(&locked, &prompt)
	if err == nil && len(locked) != 1 {
		err = fmt.Errorf("%d keyrings were locked", len(locked))
	}
	return err
}
