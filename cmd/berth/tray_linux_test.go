package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"berth/agent/ipc/client"
	"berth/internal/dbustest"
	"berth/internal/paths"
	"berth/internal/simworld"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// screen is a notification service that shows nothing, and whose buttons a
// test presses.
type screen struct {
	conn  *dbus.Conn
	cards chan card     // the last ones that were shown; it must be read
	last  atomic.Uint32 // the number of the newest one
}

type card struct {
	id          uint32
	title, body string
	actions     []string // key, label, key, label
}

const (
	screenName = "org.freedesktop.Notifications"
	screenPath = "/org/freedesktop/Notifications"
)

func startNotifications(t *testing.T, bus *dbustest.Bus) *screen {
	t.Helper()
	s := &screen{conn: bus.Connect(t), cards: make(chan card, 64)}
	if err := s.conn.Export(s, screenPath, screenName); err != nil {
		t.Fatal(err)
	}
	if _, err := s.conn.RequestName(screenName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	return s
}

// Notify is the service's method; so are the next three.
func (s *screen) Notify(_ string, id uint32, _, title, body string, actions []string, _ map[string]dbus.Variant, _ int32) (uint32, *dbus.Error) {
	if id == 0 {
		id = s.last.Add(1)
	}
	s.cards <- card{id, title, body, actions}
	return id, nil
}

func (s *screen) CloseNotification(uint32) *dbus.Error     { return nil }
func (s *screen) GetCapabilities() ([]string, *dbus.Error) { return []string{"body", "actions"}, nil }
func (s *screen) GetServerInformation() (a, b, c, d string, err *dbus.Error) {
	return "test", "berth", "1", "1.2", nil
}

// shows waits for a notification with this in its title.
func (s *screen) shows(t *testing.T, title string) card {
	t.Helper()
	late := time.After(testwait.Patience)
	for {
		select {
		case c := <-s.cards:
			if strings.Contains(c.title, title) {
				return c
			}
		case <-late:
			t.Fatalf("no notification said %q", title)
		}
	}
}

// press presses a button until that has its effect: to a tray that does not know the
// notification's number yet, the answer to Notify, it is a stranger's button.
func (s *screen) press(t *testing.T, c card, label, effect string, seen func() bool) {
	t.Helper()
	i := slices.Index(c.actions, label)
	if i < 1 {
		t.Fatalf("notification %q has no button %q: %q", c.title, label, c.actions)
	}
	testwait.Eventually(t, effect, func() bool {
		if err := s.conn.Emit(screenPath, screenName+".ActionInvoked", c.id, c.actions[i-1]); err != nil {
			t.Fatal(err)
		}
		return seen()
	})
}

// trayWorld is a tray, all around it, and no agent.
type trayWorld struct {
	*testing.T
	bus    *dbustest.Bus
	screen *screen
	panel  *dbustest.Panel
	paths  paths.Paths
	env    []string
	opened string // the file that the stand-in for xdg-open writes to
}

func newTrayWorld(t *testing.T) *trayWorld {
	t.Helper()
	testneeds.Time(t, "it runs an agent")
	home, err := shortTempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	w := &trayWorld{T: t, bus: dbustest.Start(t), opened: filepath.Join(home, "opened")}
	w.screen, w.panel = startNotifications(t, w.bus), w.bus.StartPanel(t, 0)
	bin := filepath.Join(home, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	opener := "#!/bin/sh\necho \"$1\" > " + w.opened + "\n"
	if err := os.WriteFile(filepath.Join(bin, "xdg-open"), []byte(opener), 0o700); err != nil {
		t.Fatal(err)
	}
	set := map[string]string{
		paths.HomeVar: home, "HOME": home, "TELEPORT_HOME": filepath.Join(home, "tsh"), "XDG_RUNTIME_DIR": home,
		"DBUS_SESSION_BUS_ADDRESS": w.bus.Address, "PATH": bin + ":" + os.Getenv("PATH"),
		"BROWSER": "false", // so that no window opens on the desk of whoever runs the tests
		// systray has races of its own once a panel talks to it.
		"GORACE": "exitcode=0 log_path=/dev/null " + testneeds.RaceOptions,
	}
	for k, v := range set {
		w.env = append(w.env, k+"="+v)
	}
	w.paths, err = paths.Resolve(func(name string) string { return set[name] })
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *trayWorld) command(args ...string) *exec.Cmd {
	w.Helper()
	cmd := exec.CommandContext(w.Context(), "berth", args...)
	cmd.Env = append(os.Environ(), w.env...)
	return cmd
}

func (w *trayWorld) startTray() *dbustest.Tray {
	w.Helper()
	cmd := w.command("tray", "--log-level", "debug")
	var log simworld.Log
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if w.Failed() {
			w.Logf("the tray said:\n%s", log.String())
		}
	})
	return w.panel.Registered(w)
}

// choose clicks a line of the menu once it is there.
func (w *trayWorld) choose(tray *dbustest.Tray, label string) {
	w.Helper()
	var line int32
	if !testwait.Until(func() bool { line = tray.Menu(w)[label]; return line != 0 }) {
		w.Fatalf("the menu has no %q: %v", label, tray.Menu(w))
	}
	time.Sleep(time.Second) // a line that has just come is not clicked
	tray.Click(w, line)
}

// awaitAgent waits for the agent to answer and for the tray to show it, and
// ends it with the test.
func (w *trayWorld) awaitAgent(tray *dbustest.Tray) {
	w.Helper()
	c := client.Dial(w.paths.Socket)
	w.Cleanup(func() { _ = c.Close() })
	testwait.Eventually(w, "an agent", func() bool { _, err := c.Snapshot(w.Context()); return err == nil })
	w.Cleanup(func() {
		if err := c.Shutdown(context.Background()); err != nil {
			w.Errorf("end the agent: %v", err)
		}
		testwait.Eventually(w, "the agent's end: its files are in use until then", func() bool {
			_, err := c.Info(context.Background())
			return errors.Is(err, client.ErrNotRunning)
		})
	})
	testwait.Eventually(w, "the menu to show the agent", func() bool {
		return tray.Menu(w)["Quit tray (tunnels stay up)"] != 0
	})
}

// TestStartAgentFromTheMenu: the one thing to do when there is no agent.
func TestStartAgentFromTheMenu(t *testing.T) {
	w := newTrayWorld(t)
	tray := w.startTray()
	w.choose(tray, "Start agent")
	w.awaitAgent(tray)
	if lines := tray.Menu(t); lines["Start agent"] != 0 {
		t.Errorf("the menu still has a line for it: %v", lines)
	}
}

// TestSecondTray: it has the first one show how things are, with the button
// that helps, and ends.
func TestSecondTray(t *testing.T) {
	w := newTrayWorld(t)
	tray := w.startTray()
	out, err := w.command("tray").CombinedOutput()
	if err != nil || string(out) != "a tray is running already: it shows how things are\n" {
		t.Errorf("a second tray: %v, %s", err, out)
	}
	shown := w.screen.shows(t, "berth: the agent is not running")
	w.screen.press(t, shown, "Start agent", "the agent's socket", func() bool {
		_, err := os.Stat(w.paths.Socket)
		return err == nil
	})
	w.awaitAgent(tray)
	if out, err := w.command("tray", "--quiet").CombinedOutput(); err != nil {
		t.Errorf("a third tray: %v, %s", err, out)
	}
	if shown := w.screen.shows(t, "berth: 0 of 0 tunnels ready"); !strings.Contains(shown.body, "Not logged in") {
		t.Errorf("shown: %+v", shown)
	}
}

// TestDoctorFromTheMenu: its findings are shown, and a press opens the report.
func TestDoctorFromTheMenu(t *testing.T) {
	w := newTrayWorld(t)
	tray := w.startTray()
	w.choose(tray, "Doctor")
	w.screen.shows(t, "The doctor is looking")
	found := w.screen.shows(t, "not work")
	if !strings.Contains(found.body, "The agent is not running") {
		t.Errorf("shown: %+v", found)
	}
	var opened []byte
	w.screen.press(t, found, "Open report", "the report to be opened", func() bool {
		opened, _ = os.ReadFile(w.opened)
		return len(opened) > 0
	})
	path := string(bytes.TrimSpace(opened))
	report, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(report, []byte("FAIL  the agent is not running")) || bytes.Contains(report, []byte("\x1b")) {
		t.Errorf("%s: %v\n%s", path, err, report)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v; want a file for its user alone", info, err)
	}
}

// TestTrayThatDoesNotAnswer: its lock is held, and it does not listen.
func TestTrayThatDoesNotAnswer(t *testing.T) {
	w := newTrayWorld(t)
	if err := w.paths.MakeDirs(); err != nil {
		t.Fatal(err)
	}
	unlock, mine, err := lockTray(w.paths)
	if err != nil || !mine {
		t.Fatal(mine, err)
	}
	defer unlock()
	out, err := w.command("tray").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed || !bytes.Contains(out, []byte("does not answer")) {
		t.Errorf("%v, %s", err, out)
	}
}

func TestTrayInstallIsForTheUsualBerth(t *testing.T) {
	w := newTrayWorld(t)
	out, err := w.command("tray", "install").CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("BERTH_HOME is set")) || !bytes.Contains(out, []byte("hint: unset it")) {
		t.Errorf("%v, %s", err, out)
	}
}
