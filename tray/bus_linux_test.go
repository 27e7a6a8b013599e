package tray

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/color"
	"image/png"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"

	"berth/internal/dbustest"
	"berth/notify"
)

// childVar has the test binary be a tray: systray keeps its state in the
// process, and has races of its own once a panel talks to it.
const childVar = "BERTH_TRAY_CHILD"

// runChild is a tray with a busy agent, which says on stdout what it is told
// to do.
func runChild() int {
	agent := &talkingAgent{fakeAgent{updates: make(chan update, 1)}}
	agent.updates <- update{snapshot: waking()}
	err := Run(context.Background(), Config{
		Logger: slog.New(slog.NewTextHandler(os.Stdout, nil)), Agent: agent, Prompter: &fakePrompter{},
		Notifier: func(func(id, key string), func(id string)) Notifier {
			return &fakeNotifier{cards: make(map[string]notify.Notification)}
		},
	})
	if err != nil {
		fmt.Println("ended:", err)
		return 1
	}
	return 0
}

type talkingAgent struct{ fakeAgent }

func (a *talkingAgent) StopTunnel(_ context.Context, n string) error {
	_, err := fmt.Println("stop", n)
	return err
}

// child is a tray in a process of its own.
type child struct {
	*testing.T
	cmd   *exec.Cmd
	mu    sync.Mutex
	lines []string
	ended chan error
}

func startChild(t *testing.T, address string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{T: t, cmd: exec.CommandContext(t.Context(), self), ended: make(chan error, 1)}
	c.cmd.Env = append(os.Environ(), childVar+"=1", "DBUS_SESSION_BUS_ADDRESS="+address, "GORACE=exitcode=0 log_path=/dev/null")
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.cmd.Stderr = c.cmd.Stdout
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			c.mu.Lock()
			c.lines = append(c.lines, lines.Text())
			c.mu.Unlock()
		}
		c.ended <- c.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.ended
	})
	return c
}

// says waits until the tray has said something.
func (c *child) says(what string) {
	c.Helper()
	c.until(what, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return strings.Contains(strings.Join(c.lines, "\n"), what)
	})
}

func (c *child) until(what string, is func() bool) {
	c.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = c.cmd.Process.Signal(syscall.SIGQUIT) // it says what it is at
			time.Sleep(time.Second)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.Fatalf("not within 10 s: %s; the tray said:\n%s", what, strings.Join(c.lines, "\n"))
		}
	}
}

// panel is a StatusNotifierWatcher.
type panel struct {
	items chan string
	props *prop.Properties
	deaf  atomic.Int32 // how many items it still does not hear of
}

// RegisterStatusNotifierItem is the watcher's method.
func (p *panel) RegisterStatusNotifierItem(path string, s dbus.Sender) *dbus.Error {
	if p.deaf.Add(-1) >= 0 {
		return nil
	}
	p.props.SetMust(watcherName, itemsProperty, []string{string(s) + path})
	p.items <- string(s)
	return nil
}

// itemsProperty is the panel's list of what it shows.
const itemsProperty = "RegisteredStatusNotifierItems"

func startPanel(t *testing.T, bus *dbustest.Bus, deaf int32) (*dbus.Conn, *panel) {
	t.Helper()
	p := &panel{items: make(chan string, 4)}
	p.deaf.Store(deaf)
	conn := bus.Connect(t)
	var err error
	const path = "/StatusNotifierWatcher"
	p.props, err = prop.Export(conn, path, prop.Map{watcherName: {itemsProperty: {Value: []string{":1.9999/other"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Export(p, path, watcherName); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName(watcherName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	return conn, p
}

func (p *panel) registered(t *testing.T) string {
	t.Helper()
	select {
	case s := <-p.items:
		return s
	case <-time.After(20 * time.Second):
		t.Fatal("the tray has not registered with the panel")
		return ""
	}
}

// node is a line of a menu as dbusmenu has it.
type node struct {
	ID       int32
	Props    map[string]dbus.Variant
	Children []dbus.Variant
}

// lines returns the visible lines: label by id.
func (n node) lines(t *testing.T, into map[string]int32) map[string]int32 {
	t.Helper()
	for _, v := range n.Children {
		var c node
		if err := dbus.Store([]any{v.Value()}, &c); err != nil {
			t.Fatal(err)
		}
		if shown, ok := c.Props["visible"].Value().(bool); ok && !shown {
			continue
		}
		if label, ok := c.Props["label"].Value().(string); ok {
			into[label] = c.ID
		}
		c.lines(t, into)
	}
	return into
}

func menuOf(t *testing.T, conn *dbus.Conn, tray string) map[string]int32 {
	t.Helper()
	var revision uint32
	var root node
	// The first answer has one level only, on purpose.
	for range 2 {
		err := conn.Object(tray, "/StatusNotifierItem/menu").
			Call("com.canonical.dbusmenu.GetLayout", 0, int32(0), int32(-1), []string{}).Store(&revision, &root)
		if err != nil {
			t.Fatal(err)
		}
	}
	return root.lines(t, make(map[string]int32))
}

// TestPanelComesLaterAndIsRestarted: a tray lives without a panel, is shown by
// one that comes, and again by the next; its menu works.
func TestPanelComesLaterAndIsRestarted(t *testing.T) {
	bus := dbustest.Start(t)
	c := startChild(t, bus.Address)
	c.says("no panel shows the icon")
	c.says("the agent answers")
	conn, p := startPanel(t, bus, 0)
	tray := p.registered(t)
	c.says("a panel shows the icon")

	var id string
	if err := conn.Object(tray, "/StatusNotifierItem").StoreProperty("org.kde.StatusNotifierItem.Id", &id); err != nil || id != "berth" {
		t.Errorf("the item's identity is %q, %v", id, err)
	}
	var lines map[string]int32
	// A menu is drawn line by line: its last line tells that it is whole.
	c.until("the menu", func() bool { lines = menuOf(t, conn, tray); return lines["Quit tray (tunnels stay up)"] != 0 })
	for _, want := range []string{"● prod__pg · 127.0.0.1:15432 · 3 open", "Copy address", "Stop", "Add tunnel"} {
		if lines[want] == 0 {
			t.Errorf("the menu has no %q: %v", want, lines)
		}
	}
	time.Sleep(settle)
	err := conn.Object(tray, "/StatusNotifierItem/menu").
		Call("com.canonical.dbusmenu.Event", 0, lines["Stop"], "clicked", dbus.MakeVariant(""), uint32(0)).Err
	if err != nil {
		t.Fatal(err)
	}
	c.says("stop ") // of whichever tunnel the last line of that name is

	if _, err := conn.ReleaseName(watcherName); err != nil {
		t.Fatal(err)
	}
	c.until("the panel to be missed", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return strings.Count(strings.Join(c.lines, "\n"), "no panel shows the icon") == 2
	})
	_, again := startPanel(t, bus, 0)
	if got := again.registered(t); got != tray {
		t.Errorf("%s registered, and %s before", got, tray)
	}
}

// TestPanelThatMissedTheIcon: an icon that the panel does not have is
// registered once more, and one that it has is not.
func TestPanelThatMissedTheIcon(t *testing.T) {
	for name, missed := range map[string]int32{"has_it": 0, "missed_it": 1} {
		t.Run(name, func(t *testing.T) {
			bus := dbustest.Start(t)
			_, p := startPanel(t, bus, missed)
			startChild(t, bus.Address)
			p.registered(t)
			select {
			case <-p.items:
				t.Error("the icon was registered once too often")
			case <-time.After(2 * registers):
			}
		})
	}
}

// TestIconOverTheBus: the pixels that a panel gets are those that were drawn.
// It fails when a systray that turns icons into pixels another way needs
// decodeRaw no more.
func TestIconOverTheBus(t *testing.T) {
	bus := dbustest.Start(t)
	conn, p := startPanel(t, bus, 0)
	c := startChild(t, bus.Address)
	tray := p.registered(t)
	want, err := png.Decode(bytes.NewReader(iconFile("action.png")))
	if err != nil {
		t.Fatal(err)
	}
	type pixmap struct {
		W, H int32
		Data []byte
	}
	c.until("the icon that says that something wants doing", func() bool {
		var got []pixmap
		err := conn.Object(tray, "/StatusNotifierItem").StoreProperty("org.kde.StatusNotifierItem.IconPixmap", &got)
		if err != nil || len(got) != 1 || int(got[0].W) != want.Bounds().Dx() {
			return false
		}
		for i := range int(got[0].W * got[0].H) {
			c := color.NRGBAModel.Convert(want.At(i%int(got[0].W), i/int(got[0].W))).(color.NRGBA)
			if !bytes.Equal(got[0].Data[4*i:4*i+4], []byte{c.A, c.R, c.G, c.B}) {
				return false
			}
		}
		return true
	})
}

func TestWithoutABus(t *testing.T) {
	c := startChild(t, "unix:path=/nonexistent/bus")
	c.says("ended: show the tray: connect to the D-Bus session")
}

// TestBusEnds: the session is over, and the tray with it.
func TestBusEnds(t *testing.T) {
	bus := dbustest.Start(t)
	c := startChild(t, bus.Address)
	c.says("the agent answers")
	bus.Stop(t)
	c.says("ended: " + errBusGone.Error())
	err := <-c.ended
	c.ended <- err
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 1 {
		t.Errorf("it ended with %v", err)
	}
}
