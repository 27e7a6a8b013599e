package tray

import (
	"sync"
	"time"
)

const (
	// settle is how long a line must have meant what it means before a click on
	// it counts. People read no faster: an earlier click was meant for the line
	// that was there before.
	settle = 700 * time.Millisecond
	// twice is how soon a second click on the same line is part of the first.
	twice = 500 * time.Millisecond
	// queued is how many clicks may wait for the one before.
	queued = 16
)

// toolkit is the part of the system's tray that the menu uses.
type toolkit interface {
	add(label string) entry
	separator()
	icon(mood)
	tooltip(string)
}

// entry is a line of the system's menu.
type entry interface {
	add(label string) entry
	setLabel(string)
	setEnabled(bool)
	setShown(bool)
	clicked() <-chan struct{}
}

// menu draws items. The system's lines are made once and then changed in
// place: a menu that is open stays whole, and since no line is ever removed,
// none closes its channel of clicks. Its methods are for one goroutine, except
// where they say so.
type menu struct {
	kit    toolkit
	groups [groupEnd][]*slot
	clicks chan Action // buffered: a click never waits
	done   chan struct{}
	wait   sync.WaitGroup

	icon, tip string // drawn last

	mu   sync.Mutex
	last Action // clicked last; guarded by mu
	at   time.Time
}

// slot is a line of the system's menu and what was drawn there last.
type slot struct {
	entry    entry
	children []*slot

	label           string
	disabled, shown bool
	// action and since are guarded by the menu's mu.
	action Action
	since  time.Time
}

// newMenu makes the lines that have a fixed place, all of them hidden: the
// system can only append.
func newMenu(kit toolkit) *menu {
	m := &menu{kit: kit, clicks: make(chan Action, queued), done: make(chan struct{})}
	for g := range m.groups {
		if shapes[g].line {
			kit.separator()
		}
		for range shapes[g].slots {
			m.groups[g] = append(m.groups[g], m.newSlot(kit.add("")))
		}
	}
	return m
}

// close ends the goroutines that wait for clicks.
func (m *menu) close() {
	close(m.done)
	m.wait.Wait()
}

func (m *menu) newSlot(e entry) *slot {
	e.setShown(false)
	s := &slot{entry: e}
	m.wait.Go(func() {
		for {
			select {
			case _, ok := <-e.clicked():
				if !ok {
					return // removed: a closed channel is not a click
				}
				m.click(s, time.Now())
			case <-m.done:
				return
			}
		}
	})
	return s
}

// click hands a click on, unless it was aimed at what stood there before, or
// is the second half of a double click. It may be called from any goroutine.
func (m *menu) click(s *slot, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := s.action
	switch {
	case a == (Action{}), now.Sub(s.since) < settle:
		return
	case a == m.last && now.Sub(m.at) < twice:
		return
	}
	m.last, m.at = a, now
	select {
	case m.clicks <- a:
	default: // clicks this fast are not meant
	}
}

// draw makes the menu show the items, and touches nothing that shows them
// already.
func (m *menu) draw(items []Item, now time.Time) {
	var next [groupEnd]int
	for _, it := range items {
		slots := m.groups[it.Group]
		if next[it.Group] == len(slots) {
			continue // Layout cuts its lists
		}
		m.drawSlot(slots[next[it.Group]], it, now)
		next[it.Group]++
	}
	for g, slots := range m.groups {
		for _, s := range slots[next[g]:] {
			m.hide(s, now)
		}
	}
}

func (m *menu) drawSlot(s *slot, it Item, now time.Time) {
	action := it.Action
	if it.Disabled {
		action = Action{} // some panels send clicks on grey lines
	}
	m.arm(s, action, now)
	if s.label != it.Label {
		s.label = it.Label
		s.entry.setLabel(it.Label)
	}
	if s.disabled != it.Disabled {
		s.disabled = it.Disabled
		s.entry.setEnabled(!it.Disabled)
	}
	for i, child := range it.Children {
		if i == len(s.children) {
			c := m.newSlot(s.entry.add(child.Label))
			c.label = child.Label
			s.children = append(s.children, c)
		}
		m.drawSlot(s.children[i], child, now)
	}
	for _, c := range s.children[len(it.Children):] {
		m.hide(c, now)
	}
	if !s.shown {
		s.shown = true
		s.entry.setShown(true)
	}
}

func (m *menu) hide(s *slot, now time.Time) {
	m.arm(s, Action{}, now)
	for _, c := range s.children {
		m.arm(c, Action{}, now)
	}
	if s.shown {
		s.shown = false
		s.entry.setShown(false)
	}
}

// arm says what a click on a slot does from now on.
func (m *menu) arm(s *slot, a Action, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.action != a {
		s.action, s.since = a, now
	}
}

// face draws the icon and what it says when it is pointed at.
func (m *menu) face(mood mood, tip string) {
	if m.icon != string(mood) {
		m.icon = string(mood)
		m.kit.icon(mood)
	}
	if m.tip != tip {
		m.tip = tip
		m.kit.tooltip(tip)
	}
}

// forgetFace has the next face drawn whatever is there.
func (m *menu) forgetFace() { m.icon, m.tip = "", "" }
