// Package busaddr finds the message buses of the machine without starting any.
// The D-Bus library would launch a session bus where there is none and leave it
// behind: whoever talks to one asks here first.
package busaddr

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

// ErrNone says that there is no bus to talk to.
var ErrNone = errors.New("no D-Bus session: DBUS_SESSION_BUS_ADDRESS is not set and the user's runtime folder has no bus")

// runtimeRoot is where login managers make each user's folder.
const runtimeRoot = "/run/user"

// Session returns the address of the user's session bus: the environment's,
// else that of the user's runtime folder. These are the places where the D-Bus
// library looks before it launches one.
func Session() (string, error) {
	if addr := os.Getenv("DBUS_SESSION_BUS_ADDRESS"); addr != "" {
		if !usable(addr) {
			return "", fmt.Errorf("%w (the address %q names no socket)", ErrNone, addr)
		}
		return addr, nil
	}
	path := filepath.Join(runtimeRoot, strconv.Itoa(os.Getuid()), "bus")
	if _, err := os.Stat(path); err != nil {
		return "", ErrNone
	}
	return "unix:path=" + dbus.EscapeBusAddressValue(path), nil
}

// System returns the address of the machine's bus.
func System() string {
	if addr := os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"); addr != "" && usable(addr) {
		return addr
	}
	return "unix:path=/var/run/dbus/system_bus_socket"
}

// usable reports whether an address is a socket of this machine: others run
// programs or leave it.
func usable(addr string) bool {
	for one := range strings.SplitSeq(addr, ";") {
		if one != "" && !strings.HasPrefix(one, "unix:") {
			return false
		}
	}
	return true
}
