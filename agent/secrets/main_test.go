package secrets

import (
	"testing"

	"go.uber.org/goleak"

	"berth/internal/testwait"
)

func TestMain(m *testing.M) {
	// The library keeps its connection to the session bus for the next call.
	testwait.NoLeaks(m, goleak.IgnoreAnyFunction("github.com/godbus/dbus/v5.(*Conn).inWorker"),
		goleak.IgnoreAnyFunction("github.com/godbus/dbus/v5.newConn.func1"))
}
