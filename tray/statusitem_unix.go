//go:build !windows && !darwin

package tray

import (
	"maps"
	"sync"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
)

// The names of an icon on the bus.
const (
	itemInterface       = "org.kde.StatusNotifierItem"
	propertiesInterface = "org.freedesktop.DBus.Properties"

	itemPath = dbus.ObjectPath("/StatusNotifierItem")
	menuPath = dbus.ObjectPath("/StatusNotifierItem/menu")
)

// statusItem is the icon as panels and screen readers ask for it. systray says
// that it is always "Active", and has no words for who cannot see it. Once
// systray is on the bus, statusItem answers for the item's properties in the
// place of systray.
type statusItem struct {
	mu    sync.Mutex // guards what follows
	now   mood
	icon  []pixmap // of now
	words string
	conn  *dbus.Conn // nil: systray answers
	told  string     // the status that panels know of
}

// pixmap and toolTip are D-Bus types of the specification.
type (
	pixmap struct {
		Width, Height int32
		Data          []byte
	}
	toolTip struct {
		IconName    string
		Icon        []pixmap
		Title, Text string
	}
)

// title says in words how things are.
func (s *statusItem) title(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.words = text
	s.announce(s.wording(), "NewTitle", "NewToolTip")
}

// mood says which icon there is, and whether it should be noticed.
func (s *statusItem) mood(m mood) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.icon = m, []pixmap{pixmapOf(m)}
	s.announce(s.look(), "NewIcon", "NewAttentionIcon")
}

// announce tells panels what has changed. What is wrong with the bus is for
// withHost to notice. s.mu is held.
func (s *statusItem) announce(changed map[string]dbus.Variant, signals ...string) {
	if s.conn == nil && !s.takeOver() {
		return
	}
	for _, signal := range signals {
		_ = s.conn.Emit(itemPath, itemInterface+"."+signal)
	}
	if status := statusOf(s.now); status != s.told {
		s.told = status
		_ = s.conn.Emit(itemPath, itemInterface+".NewStatus", status)
	}
	_ = s.conn.Emit(itemPath, propertiesInterface+".PropertiesChanged", itemInterface, changed, []string{})
}

// takeOver replaces systray's answers, and reports whether it has. Before
// systray is on the bus it would be replaced itself.
func (s *statusItem) takeOver() bool {
	conn, err := dbus.SessionBus() // the connection that systray has
	if err != nil || len(conn.Names()) == 0 {
		return false
	}
	if _, err := conn.Object(conn.Names()[0], itemPath).GetProperty(itemInterface + ".Id"); err != nil {
		return false
	}
	if err := conn.Export((*itemProperties)(s), itemPath, propertiesInterface); err != nil {
		return false
	}
	s.conn = conn
	return true
}

// wording and look are the properties that title and mood change; s.mu is held.
func (s *statusItem) wording() map[string]dbus.Variant {
	return variants(map[string]any{
		"Title": s.words, "ToolTip": toolTip{Icon: []pixmap{}, Title: s.words},
		"IconAccessibleDesc": s.words, "AttentionAccessibleDesc": s.words,
	})
}

func (s *statusItem) look() map[string]dbus.Variant {
	return variants(map[string]any{"Status": statusOf(s.now), "IconPixmap": s.icon, "AttentionIconPixmap": s.icon})
}

// fixedProperties are those that do not change.
var fixedProperties = variants(map[string]any{
	"Id": "berth", "Category": "ApplicationStatus", "WindowId": int32(0), "ItemIsMenu": true, "Menu": menuPath,
	"IconName": "", "IconThemePath": "", "OverlayIconName": "", "OverlayIconPixmap": []pixmap{},
	"AttentionIconName": "", "AttentionMovieName": "",
})

func variants(values map[string]any) map[string]dbus.Variant {
	out := make(map[string]dbus.Variant, len(values))
	for name, value := range values {
		out[name] = dbus.MakeVariant(value)
	}
	return out
}

// itemProperties is a statusItem on the bus.
type itemProperties statusItem

// GetAll is a method of the bus.
func (p *itemProperties) GetAll(string) (map[string]dbus.Variant, *dbus.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := (*statusItem)(p)
	all := maps.Clone(fixedProperties)
	maps.Copy(all, s.wording())
	maps.Copy(all, s.look())
	return all, nil
}

// Get is a method of the bus.
func (p *itemProperties) Get(of, name string) (dbus.Variant, *dbus.Error) {
	all, err := p.GetAll(of)
	if value, ok := all[name]; ok {
		return value, err
	}
	return dbus.Variant{}, prop.ErrPropNotFound
}

// Set is a method of the bus.
func (p *itemProperties) Set(_, _ string, _ dbus.Variant) *dbus.Error { return prop.ErrReadOnly }

// statusOf is a mood in the specification's words.
func statusOf(m mood) string {
	if m.Attention() {
		return "NeedsAttention"
	}
	return "Active"
}

// pixmapOf is a mood's icon as ARGB.
func pixmapOf(m mood) pixmap {
	w, h, pixels := pixelsOf(iconFile(string(m) + ".png"))
	for i := 0; i < len(pixels); i += 4 {
		pixels[i], pixels[i+1], pixels[i+2], pixels[i+3] = pixels[i+3], pixels[i], pixels[i+1], pixels[i+2]
	}
	return pixmap{Width: int32(w), Height: int32(h), Data: pixels}
}
