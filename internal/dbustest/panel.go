package dbustest

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"berth/internal/wake"
)

const (
	// WatcherName is who panels with a tray listen as.
	WatcherName   = "org.kde.StatusNotifierWatcher"
	watcherPath   = "/StatusNotifierWatcher"
	itemsProperty = "RegisteredStatusNotifierItems"
	registerTime  = 20 * time.Second
)

// Panel is a panel with a tray, without a display.
type Panel struct {
	Items chan string // who registers an icon; it must be read
	Asked wake.Signal // someone has asked which icons there are

	conn *dbus.Conn
	deaf atomic.Int32 // how many items it still does not hear of

	mu    sync.Mutex // guards everything below
	shown []string   // the icons
	taken bool       // a tray's icon is among them
	early bool       // it was not when someone asked last
}

// properties are those of a panel, as the bus asks for them.
type properties struct{ p *Panel }

// Get is the method that asks for a property.
func (ps properties) Get(_, name string) (dbus.Variant, *dbus.Error) {
	if name != itemsProperty {
		return dbus.Variant{}, dbus.MakeFailedError(fmt.Errorf("the panel has no %s", name))
	}
	ps.p.mu.Lock()
	defer ps.p.mu.Unlock()
	defer ps.p.Asked.Wake()
	ps.p.early = !ps.p.taken
	return dbus.MakeVariant(ps.p.shown), nil
}

// StartPanel starts a panel that ends with the test, and that misses the first
// icons that are registered with it, as many as deaf says.
func (b *Bus) StartPanel(t testing.TB, deaf int32) *Panel {
	t.Helper()
	p := &Panel{Items: make(chan string, 4), Asked: wake.NewSignal(), conn: b.Connect(t), shown: []string{":1.9999/other"}}
	p.deaf.Store(deaf)
	if err := p.conn.Export(properties{p}, watcherPath, "org.freedesktop.DBus.Properties"); err != nil {
		t.Fatal(err)
	}
	if err := p.conn.Export(p, watcherPath, WatcherName); err != nil {
		t.Fatal(err)
	}
	if _, err := p.conn.RequestName(WatcherName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	return p
}

// RegisterStatusNotifierItem is the method that trays call.
func (p *Panel) RegisterStatusNotifierItem(path string, s dbus.Sender) *dbus.Error {
	if p.deaf.Add(-1) >= 0 {
		return nil
	}
	p.mu.Lock()
	p.shown, p.taken = []string{string(s) + path}, true
	p.mu.Unlock()
	p.Items <- string(s)
	return nil
}

// AskedEarly reports whether no tray had registered its icon yet when someone last asked
// which icons there are.
func (p *Panel) AskedEarly() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.early
}

// End has the panel go, as far as anybody on the bus can tell.
func (p *Panel) End(t testing.TB) {
	t.Helper()
	if _, err := p.conn.ReleaseName(WatcherName); err != nil {
		t.Fatal(err)
	}
}

// Registered waits for a tray to register its icon, and returns the tray.
func (p *Panel) Registered(t testing.TB) *Tray {
	t.Helper()
	select {
	case s := <-p.Items:
		return &Tray{Name: s, conn: p.conn}
	case <-time.After(registerTime):
		t.Fatal("the tray has not registered with the panel")
		return nil
	}
}

// Tray is an icon with a menu, as a panel has it.
type Tray struct {
	Name string // on the bus
	conn *dbus.Conn
}

// TrayOn returns the tray whose icon is on the panel of the bus at an address. There is
// one.
func TrayOn(t testing.TB, address string) *Tray {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	var items []string
	err = conn.Object(WatcherName, watcherPath).StoreProperty(WatcherName+"."+itemsProperty, &items)
	if err != nil || len(items) != 1 {
		t.Fatalf("the panel has the icons %v: %v", items, err)
	}
	name, _, _ := strings.Cut(items[0], "/")
	return &Tray{Name: name, conn: conn}
}

// Property reads a property of the icon. The tray may not have it yet.
func (tr *Tray) Property(name string, into any) error {
	return tr.conn.Object(tr.Name, "/StatusNotifierItem").StoreProperty("org.kde.StatusNotifierItem."+name, into)
}

// node is a line of a menu as dbusmenu has it.
type node struct {
	ID       int32
	Props    map[string]dbus.Variant
	Children []dbus.Variant
}

// Menu returns the visible lines of all levels: number by label. Of lines with
// the same label it returns one.
func (tr *Tray) Menu(t testing.TB) map[string]int32 {
	t.Helper()
	into := make(map[string]int32)
	tr.root(t).walk(t, "", func(_, label string, id int32) { into[label] = id })
	return into
}

// Text returns the visible lines of all levels as a panel draws them, from top to
// bottom; those of a submenu are indented below it.
func (tr *Tray) Text(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	tr.root(t).walk(t, "", func(indent, label string, _ int32) { fmt.Fprintln(&b, indent+label) })
	return b.String()
}

func (tr *Tray) root(t testing.TB) node {
	t.Helper()
	var revision uint32
	var root node
	// The first answer has one level only, on purpose.
	for range 2 {
		err := tr.conn.Object(tr.Name, "/StatusNotifierItem/menu").
			Call("com.canonical.dbusmenu.GetLayout", 0, int32(0), int32(-1), []string{}).Store(&revision, &root)
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// walk calls line for each visible line with a label below n.
func (n node) walk(t testing.TB, indent string, line func(indent, label string, id int32)) {
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
			line(indent, label, c.ID)
		}
		c.walk(t, indent+"\t", line)
	}
}

// Click clicks the line with a number.
func (tr *Tray) Click(t testing.TB, line int32) {
	t.Helper()
	err := tr.conn.Object(tr.Name, "/StatusNotifierItem/menu").
		Call("com.canonical.dbusmenu.Event", 0, line, "clicked", dbus.MakeVariant(""), uint32(0)).Err
	if err != nil {
		t.Fatal(err)
	}
}
