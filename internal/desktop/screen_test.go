//go:build desktop && linux

package desktop

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/internal/displaytest"
	"berth/internal/testwait"
)

const screenWidth, screenHeight = 1000, 640

// screen is a desktop: an X server, a bus, a panel with a tray and a
// notification service, which all end with the test.
type screen struct {
	t       *testing.T
	dir     string // of everything it writes
	shots   string // of the pictures
	environ []string
	panel   *exec.Cmd
	n       int // pictures taken
}

func newScreen(t *testing.T, shots string) *screen {
	t.Helper()
	dir, err := os.MkdirTemp("", "berth-desktop-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &screen{t: t, dir: dir, shots: shots}
	for _, sub := range []string{"run", "config", "cache", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.environ = append(slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "DBUS_") || strings.HasPrefix(kv, "WAYLAND_") || strings.HasPrefix(kv, "BERTH_")
	}),
		"HOME="+dir, "XDG_RUNTIME_DIR="+filepath.Join(dir, "run"), "XDG_CONFIG_HOME="+filepath.Join(dir, "config"),
		"XDG_CACHE_HOME="+filepath.Join(dir, "cache"), "XDG_DATA_HOME="+filepath.Join(dir, "data"),
		"GTK_THEME=Adwaita", "NO_AT_BRIDGE=1", "LANG=C.UTF-8", "GTK_USE_PORTAL=0",
	)
	s.environ = append(s.environ, "DISPLAY="+displaytest.Start(t, fmt.Sprintf("%dx%dx24", screenWidth, screenHeight)))
	s.startBus()
	s.configurePanel()
	s.panel = s.start("xfce4-panel", "xfce4-panel", "--disable-wm-check")
	s.start("xfce4-notifyd", one(t, "/usr/lib/*/xfce4/notifyd/xfce4-notifyd"))
	s.awaitName("org.kde.StatusNotifierWatcher")
	s.awaitName("org.freedesktop.Notifications")
	return s
}

// one is the file that a pattern means.
func one(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("no %s: is everything of packaging/desktop-deps.sh installed?", pattern)
	}
	return found[0]
}

func (s *screen) startBus() {
	s.t.Helper()
	socket := filepath.Join(s.dir, "run", "bus")
	s.environ = append(s.environ, "DBUS_SESSION_BUS_ADDRESS=unix:path="+socket)
	s.start("dbus-daemon", "dbus-daemon", "--session", "--nofork", "--nopidfile", "--address=unix:path="+socket)
	s.until("a bus", func() bool { _, err := os.Stat(socket); return err == nil })
}

// configurePanel makes a panel with nothing but a tray on it.
func (s *screen) configurePanel() {
	s.t.Helper()
	s.start("xfconfd", one(s.t, "/usr/lib/*/xfce4/xfconf/xfconfd"))
	s.awaitName("org.xfce.Xfconf")
	set := func(property, kind, value string, more ...string) {
		args := append([]string{"-c", "xfce4-panel", "-p", property, "--create", "-t", kind, "-s", value}, more...)
		s.output("xfconf-query", args...)
	}
	set("/panels", "int", "1", "--force-array")
	set("/panels/panel-1/position", "string", "p=6;x=0;y=0")
	set("/panels/panel-1/position-locked", "bool", "true")
	set("/panels/panel-1/length", "uint", "100")
	set("/panels/panel-1/size", "uint", "32")
	set("/panels/panel-1/plugin-ids", "int", "1", "--force-array")
	set("/plugins/plugin-1", "string", "systray")
	// On a busy machine a step takes longer than the ten seconds after which a
	// notification goes away.
	s.output("xfconf-query", "-c", "xfce4-notifyd", "-p", "/expire-timeout", "--create", "-t", "int", "-s", "60")
}

func (s *screen) awaitName(name string) {
	s.t.Helper()
	s.until(name+" on the bus", func() bool {
		out, err := s.command("dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus",
			"org.freedesktop.DBus.NameHasOwner", "string:"+name).Output()
		return err == nil && strings.Contains(string(out), "true")
	})
}

func (s *screen) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), name, args...)
	cmd.Env = s.environ
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// start starts a program that ends with the test.
func (s *screen) start(label, name string, args ...string) *exec.Cmd {
	s.t.Helper()
	cmd := s.command(name, args...)
	s.run(label, cmd)
	return cmd
}

// run starts cmd and keeps what it says beside the pictures.
func (s *screen) run(label string, cmd *exec.Cmd) {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.shots, label+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("start %s: %v", label, err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	})
}

func (s *screen) output(name string, args ...string) string {
	s.t.Helper()
	cmd := s.command(name, args...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, complaint.String())
	}
	return string(out)
}

// until waits for something to become so.
func (s *screen) until(what string, is func() bool) {
	s.t.Helper()
	if !testwait.Until(is) {
		s.shot("failed")
		s.t.Fatalf("waited in vain for: %s", what)
	}
}

// shot takes a picture.
func (s *screen) shot(name string) {
	s.t.Helper()
	s.part(name, 0, screenHeight)
}

// part takes a picture of a strip of the screen.
func (s *screen) part(name string, top, height int) {
	s.t.Helper()
	s.n++
	path := filepath.Join(s.shots, fmt.Sprintf("%02d-%s.png", s.n, name))
	_ = os.Remove(path)
	area := fmt.Sprintf("0,%d,%d,%d", top, screenWidth, height)
	if out, err := s.command("scrot", "-a", area, path).CombinedOutput(); err != nil {
		s.t.Errorf("take the picture %s: %v\n%s", name, err, out)
	}
}

// settle gives the desktop the time to draw that a person would give it.
func settle() { time.Sleep(900 * time.Millisecond) }

func (s *screen) point(x, y int) {
	s.t.Helper()
	s.output("xdotool", "mousemove", fmt.Sprint(x), fmt.Sprint(y))
}

func (s *screen) click(x, y int) {
	s.t.Helper()
	s.point(x, y)
	settle()
	s.output("xdotool", "click", "1")
	settle()
}

// press clicks a button of the notification that is shown: the how manieth of
// how many, from the left.
func (s *screen) press(button, of int) {
	s.t.Helper()
	right, bottom := s.corner("xfce4-notifyd")
	s.click(right-60-99*(of-1-button), bottom-31)
}

// agree clicks the right button of a dialog.
func (s *screen) agree(shot string) {
	s.t.Helper()
	right, bottom := s.corner("zenity")
	settle()
	s.shot(shot)
	s.click(right-50, bottom-24)
}

// menuOpen reports whether a menu of the panel's is on the screen.
func (s *screen) menuOpen() bool {
	found, err := s.command("xdotool", "search", "--onlyvisible", "--class", "xfce4-panel|wrapper").Output()
	if err != nil {
		return false
	}
	for id := range strings.FieldsSeq(string(found)) {
		geometry, err := s.command("xdotool", "getwindowgeometry", "--shell", id).Output()
		if err != nil {
			continue // it has just gone
		}
		var window, x, y, width, height int
		shell := strings.NewReplacer("=", " ", "\n", " ").Replace(string(geometry))
		n, _ := fmt.Sscanf(shell, "WINDOW %d X %d Y %d WIDTH %d HEIGHT %d", &window, &x, &y, &width, &height)
		if n == 5 && height > 100 {
			return true
		}
	}
	return false
}

// corner is the lower right corner of the window that a program shows.
func (s *screen) corner(class string) (right, bottom int) {
	s.t.Helper()
	s.until("a window of "+class, func() bool {
		found, err := s.command("xdotool", "search", "--onlyvisible", "--class", class).Output()
		if err != nil {
			return false
		}
		for id := range strings.FieldsSeq(string(found)) {
			var window, x, y, width, height int
			shell := strings.NewReplacer("=", " ", "\n", " ").Replace(s.output("xdotool", "getwindowgeometry", "--shell", id))
			n, _ := fmt.Sscanf(shell, "WINDOW %d X %d Y %d WIDTH %d HEIGHT %d", &window, &x, &y, &width, &height)
			if n == 5 && width > 100 && height > 80 { // one with buttons
				right, bottom = x+width, y+height
				return true
			}
		}
		return false
	})
	return right, bottom
}

func (s *screen) key(name string) {
	s.t.Helper()
	s.output("xdotool", "key", name)
	settle()
}

// clipboard is what was copied last.
func (s *screen) clipboard() string {
	out, err := s.command("xclip", "-out", "-selection", "clipboard").Output()
	if err != nil {
		return ""
	}
	return string(out)
}
