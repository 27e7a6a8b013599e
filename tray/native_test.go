package tray

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeNative is a system's menu that notes what is done to it.
type fakeNative struct{ done []string }

func (f *fakeNative) note(format string, args ...any) {
	f.done = append(f.done, fmt.Sprintf(format, args...))
}
func (f *fakeNative) addItem(parent, id int, label string) {
	f.note("add %d under %d %q", id, parent, label)
}
func (f *fakeNative) addLine(id int)                { f.note("line %d", id) }
func (f *fakeNative) setLabel(id int, label string) { f.note("label %d %q", id, label) }
func (f *fakeNative) setEnabled(id int, on bool)    { f.note("enabled %d %v", id, on) }
func (f *fakeNative) setShown(id int, on bool)      { f.note("shown %d %v", id, on) }
func (f *fakeNative) setTip(text string)            { f.note("tip %q", text) }
func (f *fakeNative) setIcon(png []byte) {
	f.note("icon %v", strings.HasPrefix(string(png), "\x89PNG"))
}

// nativeWorld is a menu whose main thread is the test.
type nativeWorld struct {
	*nativeMenu
	woken int
	to    fakeNative
}

func newNativeWorld() *nativeWorld {
	w := &nativeWorld{nativeMenu: &nativeMenu{}}
	w.wake = func() { w.woken++ }
	return w
}

// applied returns what the main thread does now.
func (w *nativeWorld) applied() []string {
	w.to.done = nil
	w.apply(&w.to)
	return w.to.done
}

func want(t *testing.T, got []string, lines ...string) {
	t.Helper()
	if diff := cmp.Diff(lines, got); diff != "" {
		t.Errorf("the system's menu (-want +got):\n%s", diff)
	}
}

func TestNativeMenuIsDrawnInOrder(t *testing.T) {
	w := newNativeWorld()
	top := w.add("one")
	sub := top.add("beneath")
	w.separator()
	w.add("two").setEnabled(false)
	w.icon(moodFine)
	w.tooltip("berth: all well")
	if w.woken != 1 {
		t.Errorf("the main thread was woken %d times for what it does at once", w.woken)
	}
	want(t, w.applied(), `add 1 under 0 "one"`, `add 2 under 1 "beneath"`, "line 3", `add 4 under 0 "two"`, "enabled 4 false",
		"icon true", `tip "berth: all well"`)
	want(t, w.applied())
	sub.setLabel("deeper")
	if w.woken != 2 {
		t.Errorf("the main thread was woken %d times", w.woken)
	}
	want(t, w.applied(), `label 2 "deeper"`)
}

// What was said and unsaid before the main thread looked is done once.
func TestNativeMenuSkipsWhatIsOver(t *testing.T) {
	w := newNativeWorld()
	e, other := w.add("a"), w.add("b")
	w.applied()
	for i := range 100 {
		e.setLabel(fmt.Sprint(i))
		e.setShown(i%2 == 0)
		other.setLabel("c")
		w.tooltip(fmt.Sprint(i))
	}
	want(t, w.applied(), `label 1 "99"`, "shown 1 false", `label 2 "c"`, `tip "99"`)
}

// A separator is shown between lines that are, and nowhere else.
func TestNativeMenuTidiesSeparators(t *testing.T) {
	w := newNativeWorld()
	a := w.add("a")
	w.separator() // 2
	b := w.add("b")
	w.separator() // 4
	c := w.add("c")
	b.setShown(false)
	got := w.applied()
	want(t, got[5:], "shown 3 false", "shown 2 false")
	c.setShown(false)
	want(t, w.applied(), "shown 5 false", "shown 4 false")
	b.setShown(true)
	want(t, w.applied(), "shown 3 true", "shown 2 true")
	a.setShown(false)
	want(t, w.applied(), "shown 1 false", "shown 2 false")
}

func TestNativeMenuClicks(t *testing.T) {
	w := newNativeWorld()
	e := w.add("a")
	for _, id := range []int{0, 2, -1} {
		w.click(id) // no line of ours
	}
	w.click(1)
	w.click(1) // while the first is not seen yet
	<-e.clicked()
	select {
	case <-e.clicked():
		t.Error("one click came twice")
	default:
	}
}

// TestNativeMenuWithTheMenu draws berth's own menu, from the goroutine that draws
// while the main thread applies.
func TestNativeMenuWithTheMenu(t *testing.T) {
	w := newNativeWorld()
	w.wake = func() {}
	done := make(chan struct{})
	var main sync.WaitGroup
	main.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				w.apply(&w.to)
			}
		}
	})
	m := newMenu(w.nativeMenu)
	m.face(moodAction, "berth")
	m.close()
	close(done)
	main.Wait()
	w.apply(&w.to)
	added := 0
	for _, d := range w.to.done {
		if strings.HasPrefix(d, "add ") || strings.HasPrefix(d, "line ") {
			added++
		}
	}
	if added != len(w.entries) || added == 0 {
		t.Errorf("%d of %d lines were made", added, len(w.entries))
	}
}
