package osevents

import (
	"bytes"
	"os"
	"path/filepath"
)

// onBattery reports whether the machine runs on its battery.
func onBattery() bool { return drained("/sys/class/power_supply") }

// drained looks at the power supplies of a folder, which has one folder for each.
func drained(folder string) bool {
	supplies, err := os.ReadDir(folder)
	if err != nil {
		return false // it does not say
	}
	drains := false
	for _, s := range supplies {
		read := func(name string) string {
			text, _ := os.ReadFile(filepath.Join(folder, s.Name(), name)) //nolint:errcheck // not every supply has every file
			return string(bytes.TrimSpace(text))
		}
		switch {
		case read("scope") == "Device": // of a mouse, for one
		case read("type") != "Battery":
			if read("online") == "1" {
				return false
			}
		case read("status") == "Discharging":
			drains = true
		}
	}
	return drains
}
