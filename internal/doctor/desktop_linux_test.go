package doctor

import (
	"testing"

	"github.com/godbus/dbus/v5"

	"berth/internal/dbustest"
)

// notifier is a notification service that can do what the test wants.
type notifier []string

func (n notifier) GetCapabilities() ([]string, *dbus.Error) { return n, nil }

func (n notifier) GetServerInformation() (name, vendor, version, spec string, err *dbus.Error) {
	return "fake\x1b[2J", "test", "1", "1.2", nil
}

// TestDesktop: what the desktop lacks is named. Nothing is launched to find out.
func TestDesktop(t *testing.T) {
	for name, c := range map[string]struct {
		watcher bool
		can     notifier
		want    map[string]Status
	}{
		"all_there":   {true, notifier{"body", "actions"}, map[string]Status{"tray_host": OK, "notifications": OK}},
		"no_buttons":  {true, notifier{"body"}, map[string]Status{"tray_host": OK, "notifications": Warn}},
		"no_panel":    {false, notifier{"actions"}, map[string]Status{"tray_host": Warn, "notifications": OK}},
		"no_notifier": {true, nil, map[string]Status{"tray_host": OK, "notifications": Warn}},
	} {
		t.Run(name, func(t *testing.T) {
			bus := dbustest.Start(t)
			t.Setenv("DBUS_SESSION_BUS_ADDRESS", bus.Address)
			if c.watcher {
				bus.Connect(t, watcherName)
			}
			if c.can != nil {
				conn := bus.Connect(t, noticesName)
				if err := conn.Export(c.can, noticesPath, noticesName); err != nil {
					t.Fatal(err)
				}
			}
			found := Desktop(t.Context())
			if len(found) != len(c.want) {
				t.Errorf("found %+v", found)
			}
			for _, f := range found {
				if f.Status != c.want[f.Check] {
					t.Errorf("%s %s, want %s: %s", f.Check, f.Status, c.want[f.Check], f.Text)
				}
			}
		})
	}
}
