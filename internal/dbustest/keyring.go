package dbustest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"berth/internal/testneeds"
	"berth/internal/testwait"
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
	testneeds.Program(t, "gnome-keyring-daemon")
	home, err := os.MkdirTemp("", "keyring") // short enough for sockets
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), "gnome-keyring-daemon", "--foreground", "--unlock",
		"--components=secrets", "--control-directory="+home)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_RUNTIME_DIR=" + home,
		"XDG_DATA_HOME=" + home, "DBUS_SESSION_BUS_ADDRESS=" + b.Address,
	}
	cmd.Stdin = strings.NewReader("the keyring's own password")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(home)
	})
	conn := b.Connect(t)
	testwait.Eventually(t, "the keyring to come up", func() bool {
		var owned bool
		if err := conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, keyringName).Store(&owned); err != nil {
			t.Fatal(err)
		}
		return owned
	})
}

// LockKeyring locks the keyring on the bus at address.
func LockKeyring(t testing.TB, address string) {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // nothing is to be sent any more
	var locked []dbus.ObjectPath
	var prompt dbus.ObjectPath
	if err := conn.Object(keyringName, keyringPath).Call("org.freedesktop.Secret.Service.Lock", 0,
		[]dbus.ObjectPath{keyringPath + "/collection/login"}).Store(&locked, &prompt); err != nil || len(locked) != 1 {
		t.Fatalf("lock the keyring: %v, %v", locked, err)
	}
}
