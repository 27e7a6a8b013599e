package tray

import "sync"

// nativeMenu is a menu that only one thread of the process may touch, as macOS
// wants it. Whoever draws says what shall change; the main thread does it when it
// gets round to it, each change once however often it was said.
type nativeMenu struct {
	// wake has the main thread call apply soon. It may be called from any
	// goroutine.
	wake func()

	mu      sync.Mutex // guards what follows
	entries []*nativeEntry
	changes []change
}

// native is the system's menu; its methods are for the main thread.
type native interface {
	addItem(parent, id int, label string) // parent 0 is the menu itself
	addLine(id int)
	setLabel(id int, label string)
	setEnabled(id int, on bool)
	setShown(id int, on bool)
	setIcon(png []byte)
	setTip(text string) // also what a screen reader says
}

// change is one thing to do to the system's menu.
type change struct {
	what   changeKind
	id     int // of the line; zero for the icon
	parent int
	text   string
	on     bool
	mood   mood
}

type changeKind int

const (
	changeAdd changeKind = iota
	changeAddLine
	changeLabel
	changeEnabled
	changeShown
	changeIcon
	changeTip
)

// nativeEntry is a line of the menu; its number is its place in entries, from 1.
type nativeEntry struct {
	menu   *nativeMenu
	id     int
	parent int
	line   bool
	shown  bool // guarded by the menu's mu
	clicks chan struct{}
}

// say notes a change, in place of one that it makes needless.
func (m *nativeMenu) say(c change) {
	m.mu.Lock()
	first := len(m.changes) == 0
	m.put(c)
	m.mu.Unlock()
	if first {
		m.wake()
	}
}

// put is say for whoever holds mu.
func (m *nativeMenu) put(c change) {
	if c.what != changeAdd && c.what != changeAddLine {
		for i, old := range m.changes {
			if old.what == c.what && old.id == c.id {
				m.changes[i] = c
				return
			}
		}
	}
	m.changes = append(m.changes, c)
}

// insert appends a line to the menu, or to that of an entry.
func (m *nativeMenu) insert(parent int, label string, line bool) *nativeEntry {
	m.mu.Lock()
	e := &nativeEntry{menu: m, id: len(m.entries) + 1, parent: parent, line: line, shown: true, clicks: make(chan struct{}, 1)}
	m.entries = append(m.entries, e)
	m.mu.Unlock()
	what := changeAdd
	if line {
		what = changeAddLine
	}
	m.say(change{what: what, id: e.id, parent: parent, text: label})
	return e
}

func (m *nativeMenu) add(label string) entry { return m.insert(0, label, false) }
func (m *nativeMenu) separator()             { m.insert(0, "", true) }
func (m *nativeMenu) icon(mood mood)         { m.say(change{what: changeIcon, mood: mood}) }
func (m *nativeMenu) tooltip(text string)    { m.say(change{what: changeTip, text: text}) }

func (e *nativeEntry) add(label string) entry { return e.menu.insert(e.id, label, false) }

func (e *nativeEntry) setLabel(label string) {
	e.menu.say(change{what: changeLabel, id: e.id, text: label})
}

func (e *nativeEntry) setEnabled(on bool) {
	e.menu.say(change{what: changeEnabled, id: e.id, on: on})
}

func (e *nativeEntry) setShown(on bool) {
	e.menu.mu.Lock()
	e.shown = on
	e.menu.mu.Unlock()
	e.menu.say(change{what: changeShown, id: e.id, on: on})
}

func (e *nativeEntry) clicked() <-chan struct{} { return e.clicks }

// apply does what was said since the last time.
func (m *nativeMenu) apply(to native) {
	m.mu.Lock()
	if len(m.changes) > 0 {
		m.tidy()
	}
	changes := m.changes
	m.changes = nil
	m.mu.Unlock()
	for _, c := range changes {
		switch c.what {
		case changeAdd:
			to.addItem(c.parent, c.id, c.text)
		case changeAddLine:
			to.addLine(c.id)
		case changeLabel:
			to.setLabel(c.id, c.text)
		case changeEnabled:
			to.setEnabled(c.id, c.on)
		case changeShown:
			to.setShown(c.id, c.on)
		case changeIcon:
			data, _ := iconFor("darwin", c.mood) // all of them are templates
			to.setIcon(data)
		case changeTip:
			to.setTip(c.text)
		}
	}
}

// tidy hides separators that would separate nothing: macOS shows each of them.
// The caller holds mu.
func (m *nativeMenu) tidy() {
	var line *nativeEntry // that waits for something beneath it
	above := false        // something is shown above it
	set := func(e *nativeEntry, on bool) {
		if e != nil && e.shown != on {
			e.shown = on
			m.put(change{what: changeShown, id: e.id, on: on})
		}
	}
	for _, e := range m.entries {
		switch {
		case e.parent != 0:
		case e.line:
			set(line, false)
			line = e
		case e.shown:
			set(line, above)
			line, above = nil, true
		}
	}
	set(line, false)
}

// click is a click on the line with a number. It never waits.
func (m *nativeMenu) click(id int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if id < 1 || id > len(m.entries) {
		return
	}
	select {
	case m.entries[id-1].clicks <- struct{}{}:
	default: // the one before has not been seen yet
	}
}
