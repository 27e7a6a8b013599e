package tray

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/agent/state"
)

// fakeKit is a system's menu that counts what it is told.
type fakeKit struct {
	mu      sync.Mutex
	entries []*fakeEntry
	calls   int
	mood    mood
	tip     string
}

type fakeEntry struct {
	kit      *fakeKit
	label    string
	line     bool
	grey     bool
	hidden   bool
	children []*fakeEntry
	ch       chan struct{}
}

func (k *fakeKit) add(label string) entry {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	e := &fakeEntry{kit: k, label: label, ch: make(chan struct{})}
	k.entries = append(k.entries, e)
	return e
}

func (k *fakeKit) separator() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.entries = append(k.entries, &fakeEntry{line: true})
}
func (k *fakeKit) icon(m mood)      { k.mu.Lock(); defer k.mu.Unlock(); k.calls++; k.mood = m }
func (k *fakeKit) tooltip(s string) { k.mu.Lock(); defer k.mu.Unlock(); k.calls++; k.tip = s }

func (e *fakeEntry) change(f func()) {
	e.kit.mu.Lock()
	defer e.kit.mu.Unlock()
	e.kit.calls++
	f()
}

func (e *fakeEntry) add(label string) entry {
	c := &fakeEntry{kit: e.kit, label: label, ch: make(chan struct{})}
	e.change(func() { e.children = append(e.children, c) })
	return c
}
func (e *fakeEntry) setLabel(s string)        { e.change(func() { e.label = s }) }
func (e *fakeEntry) setEnabled(on bool)       { e.change(func() { e.grey = !on }) }
func (e *fakeEntry) setShown(on bool)         { e.change(func() { e.hidden = !on }) }
func (e *fakeEntry) clicked() <-chan struct{} { return e.ch }

// count is how often the toolkit was called.
func (k *fakeKit) count() int { k.mu.Lock(); defer k.mu.Unlock(); return k.calls }

// screen is what a person sees.
func (k *fakeKit) screen() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []string
	var walk func(string, []*fakeEntry)
	walk = func(indent string, list []*fakeEntry) {
		for _, e := range list {
			switch {
			case e.line:
				out = append(out, "──")
			case !e.hidden && e.grey:
				out = append(out, indent+e.label+" (grey)")
			case !e.hidden:
				out = append(out, indent+e.label)
			}
			if !e.hidden {
				walk(indent+"    ", e.children)
			}
		}
	}
	walk("", k.entries)
	return out
}

// find returns the line with a label, shown or not.
func (k *fakeKit) find(t *testing.T, parent, label string) *fakeEntry {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.entries {
		if parent == "" && e.label == label {
			return e
		}
		for _, c := range e.children {
			if strings.HasPrefix(e.label, parent) && c.label == label {
				return c
			}
		}
	}
	t.Fatalf("no line %q under %q", label, parent)
	return nil
}

func wanted(items []Item) []string {
	var out []string
	last := GroupFirst
	add := func(indent string, it Item) {
		if it.Disabled {
			it.Label += " (grey)"
		}
		out = append(out, indent+it.Label)
	}
	for _, it := range items {
		for g := last + 1; g <= it.Group; g++ {
			if shapes[g].line {
				out = append(out, "──")
			}
		}
		last = it.Group
		add("", it)
		for _, c := range it.Children {
			add("    ", c)
		}
	}
	return out
}

func (m *menu) take(t *testing.T) (Action, bool) {
	t.Helper()
	synctest.Wait()
	select {
	case a := <-m.clicks:
		return a, true
	default:
		return Action{}, false
	}
}

// TestDrawFollowsTheItems goes through menus of every kind: what is seen is
// always what was last drawn, whatever was there before.
func TestDrawFollowsTheItems(t *testing.T) {
	many, manyEnv := crowd()
	linux := Env{GOOS: "linux", Client: psql, Offers: offers()}
	menus := [][]Item{
		Layout(state.Snapshot{}, Env{Away: true}, noon),
		Layout(busy(), linux, noon),
		Layout(many, manyEnv, noon),
		Layout(nasty(), linux, noon),
		Layout(state.Snapshot{}, linux, noon),
		Layout(state.Snapshot{}, Env{Away: true, Starting: true}, noon),
	}
	kit := &fakeKit{}
	m := newMenu(kit)
	defer m.close()
	for i := range menus {
		for k := range menus {
			for _, next := range []int{i, k} {
				m.draw(menus[next], time.Now())
				if diff := cmp.Diff(wanted(menus[next]), kit.screen()); diff != "" {
					t.Fatalf("menu %d after %d (-want +got):\n%s", next, i, diff)
				}
			}
		}
	}
}

// TestDrawTouchesOnlyWhatChanged: each call costs a round of messages with the
// panel.
func TestDrawTouchesOnlyWhatChanged(t *testing.T) {
	kit := &fakeKit{}
	m := newMenu(kit)
	defer m.close()
	env := Env{GOOS: "linux", Client: psql, Offers: offers()}
	draw := func(now time.Time) int {
		before := kit.calls
		m.draw(Layout(busy(), env, now), now)
		m.face(moodOf(busy(), env, now), tooltipOf(busy(), env, now))
		return kit.calls - before
	}
	draw(noon)
	if n := draw(noon.Add(20 * time.Second)); n != 0 {
		t.Errorf("drawing the same menu made %d calls", n)
	}
	if n := draw(noon.Add(time.Minute)); n != 2 {
		t.Errorf("a minute later %d calls were made, want 2: the time left, there and in the tooltip", n)
	}
}

// settledMenu draws a menu and lets the time pass in which it takes no click.
func settledMenu(t *testing.T) (*fakeKit, *menu) {
	kit := &fakeKit{}
	m := newMenu(kit)
	t.Cleanup(m.close)
	m.draw(Layout(busy(), Env{GOOS: "linux"}, noon), time.Now())
	time.Sleep(settle)
	return kit, m
}

func TestClicks(t *testing.T) {
	stop := Action{Do: doStop, Tunnel: "prod_pg"}
	env := Env{GOOS: "linux"}
	press := func(e *fakeEntry) {
		synctest.Wait()
		select {
		case e.ch <- struct{}{}:
		default: // as systray does
		}
		synctest.Wait()
	}
	t.Run("a_click", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			kit, m := settledMenu(t)
			press(kit.find(t, "prod", "Stop"))
			if a, ok := m.take(t); !ok || a != stop {
				t.Errorf("got %v, %v", a, ok)
			}
		})
	})
	t.Run("two_in_50_ms_are_one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			kit, m := settledMenu(t)
			e := kit.find(t, "prod", "Stop")
			press(e)
			time.Sleep(50 * time.Millisecond)
			press(e)
			m.take(t)
			if a, ok := m.take(t); ok {
				t.Errorf("a second %v", a)
			}
			time.Sleep(twice)
			press(e)
			if _, ok := m.take(t); !ok {
				t.Error("a click later on is lost")
			}
		})
	})
	t.Run("on_what_just_vanished", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			kit, m := settledMenu(t)
			e := kit.find(t, "prod", "Stop")
			m.draw(Layout(state.Snapshot{}, Env{Away: true}, noon), time.Now())
			press(e)
			if a, ok := m.take(t); ok {
				t.Errorf("%v, and the line is gone", a)
			}
		})
	})
	t.Run("on_what_just_took_its_place", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			kit, m := settledMenu(t)
			e := kit.find(t, "prod", "Stop")
			s := busy()
			s.Tunnels = s.Tunnels[1:] // prod-k8s moves up
			m.draw(Layout(s, env, noon), time.Now())
			time.Sleep(settle / 2)
			press(e)
			if a, ok := m.take(t); ok {
				t.Errorf("%v, and the click was for another", a)
			}
			time.Sleep(settle)
			press(kit.find(t, "prod", "Stop"))
			if a, ok := m.take(t); !ok || a.Tunnel != "prod-k8s" {
				t.Errorf("got %v, %v", a, ok)
			}
		})
	})
	t.Run("time_passing_does_not_unsettle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			kit, m := settledMenu(t)
			m.draw(Layout(busy(), env, noon.Add(time.Minute)), time.Now())
			press(kit.find(t, "alice", "Renew now"))
			if a, ok := m.take(t); !ok || a.Do != doRenew {
				t.Errorf("got %v, %v", a, ok)
			}
		})
	})
	t.Run("on_a_grey_line", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			kit, m := settledMenu(t)
			press(kit.find(t, "prod", "prod__pg-db in example.com · postgres"))
			if a, ok := m.take(t); ok {
				t.Errorf("got %v", a)
			}
		})
	})
	t.Run("a_closed_channel_is_no_click", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			kit, m := settledMenu(t)
			close(kit.find(t, "prod", "Stop").ch)
			if a, ok := m.take(t); ok {
				t.Errorf("got %v", a)
			}
		})
	})
	t.Run("more_than_anybody_means", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			kit, m := settledMenu(t)
			for i := range 3 * queued {
				press(kit.find(t, "prod", []string{"Stop", "Restart"}[i%2]))
			}
			n := 0
			for {
				if _, ok := m.take(t); !ok {
					break
				}
				n++
			}
			if n != queued {
				t.Errorf("%d clicks wait, want %d", n, queued)
			}
		})
	})
}

func BenchmarkDraw(b *testing.B) {
	kit := &fakeKit{}
	m := newMenu(kit)
	defer m.close()
	s, env := crowd()
	for i := range b.N {
		s.Tunnels[0].Connections = int64(i)
		m.draw(Layout(s, env, noon), noon)
	}
}
