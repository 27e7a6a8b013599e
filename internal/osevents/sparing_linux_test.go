package osevents

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"

	"berth/internal/dbustest"
	"berth/internal/testwait"
)

func TestDrained(t *testing.T) {
	type supply map[string]string
	battery := func(status string) supply { return supply{"type": "Battery", "status": status} }
	line := func(online string) supply { return supply{"type": "Mains", "online": online} }
	mouse := supply{"type": "Battery", "status": "Discharging", "scope": "Device"}
	for what, c := range map[string]struct {
		supplies map[string]supply
		want     bool
	}{
		"a machine without a battery": {map[string]supply{}, false},
		"unplugged":                   {map[string]supply{"AC": line("0"), "BAT0": battery("Discharging")}, true},
		"plugged in, and charging":    {map[string]supply{"AC": line("1"), "BAT0": battery("Charging")}, false},
		"a weak plug":                 {map[string]supply{"AC": line("1"), "BAT0": battery("Discharging")}, false},
		"charged by USB": {map[string]supply{
			"AC": line("0"), "BAT0": battery("Not charging"), "usb": {"type": "USB", "online": "1"},
		}, false},
		"the second of two batteries": {map[string]supply{"BAT0": battery("Full"), "BAT1": battery("Discharging")}, true},
		"a mouse's battery":           {map[string]supply{"hid": mouse}, false},
		"unplugged, and a mouse":      {map[string]supply{"AC": line("0"), "BAT0": battery("Discharging"), "hid": mouse}, true},
	} {
		folder := t.TempDir()
		for name, files := range c.supplies {
			if err := os.Mkdir(filepath.Join(folder, name), 0o755); err != nil {
				t.Fatal(err)
			}
			for file, text := range files {
				if err := os.WriteFile(filepath.Join(folder, name, file), []byte(text+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := drained(folder); got != c.want {
			t.Errorf("%s: drained() = %v, want %v", what, got, c.want)
		}
	}
	if drained(filepath.Join(t.TempDir(), "none")) {
		t.Error("a system that does not say: drained() = true")
	}
}

// TestSparingAsksNowAndThen: the battery is asked at the start, and later while
// someone is interested, but not at every look.
func TestSparingAsksNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		var battery atomic.Bool
		battery.Store(true)
		m := newFakeMachine().monitor(Config{}, source{name: "all", covers: coverSleep | coverClock | coverNetwork, listen: listening})
		m.sparing.battery = func() bool { asked.Add(1); return battery.Load() }
		start(t, m)
		want := func(sparing bool, times int64) {
			t.Helper()
			synctest.Wait()
			if got := m.Sparing(); got != sparing || asked.Load() != times {
				t.Errorf("Sparing() = %v, asked %d times; want %v and %d", got, asked.Load(), sparing, times)
			}
		}
		want(true, 1)
		battery.Store(false)
		for range powerAskedFor / time.Second { // it is asked again after powerAskedFor
			want(true, 1)
			time.Sleep(time.Second)
		}
		want(false, 2)
		time.Sleep(powerAskedFor) // for the look of just now
		want(false, 3)
		time.Sleep(powerAskedFor)
		synctest.Wait()
		before := asked.Load()
		time.Sleep(time.Hour)
		if asked.Load() != before {
			t.Errorf("asked %d times while no one was interested", asked.Load()-before)
		}
	})
}

// TestBatteryThatIsSlow: whoever asks does not wait for it, and has what was known.
func TestBatteryThatIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan bool)
		m := newFakeMachine().monitor(Config{}, source{name: "all", covers: coverSleep | coverClock | coverNetwork, listen: listening})
		m.sparing.battery = func() bool { return <-answer }
		start(t, m)
		known := false
		for range 3 {
			asked := time.Now()
			if m.Sparing() != known || time.Since(asked) != 0 {
				t.Errorf("Sparing() = %v after %v, want %v at once", !known, time.Since(asked), known)
			}
			known = !known
			answer <- known
			synctest.Wait()
			if m.Sparing() != known {
				t.Errorf("Sparing() = %v, want what was answered", !known)
			}
			time.Sleep(powerAskedFor)
		}
		answer <- false // for Run to end
	})
}

// offerNetwork is a NetworkManager that says how the network is charged for.
func offerNetwork(t *testing.T, bus *dbustest.Bus, metered uint32) (*dbus.Conn, *prop.Properties) {
	t.Helper()
	conn := bus.Connect(t)
	props, err := prop.Export(conn, networkPath, prop.Map{networkName: {
		networkMetered: {Value: metered, Emit: prop.EmitTrue},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return conn, props
}

func TestMeteredNetwork(t *testing.T) {
	bus := dbustest.Start(t)
	conn, props := offerNetwork(t, bus, meteredGuessYes)
	m := New(Config{SystemBus: bus.Address})
	m.sparing.battery = func() bool { return false }
	m.sources = []source{{name: "network manager", covers: coverSleep, listen: listenMetered}}
	start(t, m)
	testwait.Eventually(t, "the bus", func() bool { return m.missing()&coverSleep == 0 })
	if m.Sparing() {
		t.Error("without a network manager: Sparing() = true")
	}

	if _, err := conn.RequestName(networkName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	testwait.Eventually(t, "a network that is guessed to be metered", m.Sparing)
	for _, c := range []struct {
		metered uint32
		want    bool
	}{{4, false}, {meteredYes, true}, {2, false}, {meteredYes, true}} {
		props.SetMust(networkName, networkMetered, c.metered)
		testwait.Eventually(t, "what the network manager says", func() bool { return m.Sparing() == c.want })
	}

	// A manager that has gone is forgotten.
	if _, err := conn.ReleaseName(networkName); err != nil {
		t.Fatal(err)
	}
	testwait.Eventually(t, "the manager to be gone", func() bool { return !m.Sparing() })
	props.SetMust(networkName, networkMetered, uint32(meteredYes))
	if _, err := conn.RequestName(networkName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	testwait.Eventually(t, "the manager to be back", m.Sparing)
}
