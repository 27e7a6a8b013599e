package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"berth/internal/dbustest"
)

// cmdKeyring starts a session bus with an unlocked keyring, or locks that.
func cmdKeyring(t *testing.T, ts *testscript.TestScript, args []string) {
	if len(args) == 1 && args[0] == "lock" {
		ts.Check(dbustest.LockKeyring(ts.Getenv("DBUS_SESSION_BUS_ADDRESS")))
		return
	}
	bus := dbustest.Start(t)
	bus.StartKeyring(t)
	ts.Setenv("DBUS_SESSION_BUS_ADDRESS", bus.Address)
}

// cmdPassword changes a user's password at the cluster.
func cmdPassword(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: password USER PASSWORD")
	}
	worldOf(ts).Sim.SetLogin(args[0], args[1], "")
}
