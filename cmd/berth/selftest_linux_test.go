package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"berth/internal/dbustest"
	"berth/internal/selftest"
	"berth/internal/testneeds"
)

// TestSelftestOnADesktop: where there are a panel, a notification service and a
// keyring, each of them is tried.
func TestSelftestOnADesktop(t *testing.T) {
	testneeds.Time(t, "it starts a keyring, an agent and a tray")
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		testneeds.Skip(t, "a machine without systemd", "a test must not touch the service manager of whoever runs it")
	}
	bus := dbustest.Start(t)
	bus.StartKeyring(t)
	bus.StartPanel(t, 0)
	desk := startNotifications(t, bus)
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "berth", "selftest", "--json")
	cmd.Env = append(os.Environ(), "HOME="+home, "TMPDIR="+home, "XDG_CONFIG_HOME=", "XDG_RUNTIME_DIR=",
		"DBUS_SESSION_BUS_ADDRESS="+bus.Address, "GORACE="+testneeds.RaceOptions)
	out, err := cmd.Output()
	var r selftestReport
	if json.Unmarshal(out, &r) != nil || err != nil {
		t.Fatalf("berth selftest: %v\n%s", err, out)
	}
	desk.shows(t, "berth tries itself")
	for _, c := range r.Checks {
		switch c.Check {
		case "cluster", "tunnels", "queries": // they want a berth-demo, whose own tests have one
		default:
			if c.Status != selftest.OK {
				t.Errorf("%s is %s: %s", c.Check, c.Status, c.Text)
			}
		}
	}
	if strings.Contains(string(out), home) {
		t.Errorf("the report names a folder:\n%s", out)
	}
	left, err := os.ReadDir(home)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if strings.HasPrefix(f.Name(), "berth") || f.Name() == ".config" {
			t.Errorf("%s was left behind", f.Name())
		}
	}
}
