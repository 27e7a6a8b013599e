//go:build cgo || !darwin

package tray

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"fyne.io/systray"
)

// systrayKit is fyne.io/systray, which keeps its state in the process: there
// is one tray, once.
type systrayKit struct{}

func (systrayKit) add(label string) entry { return &systrayEntry{systray.AddMenuItem(label, "")} }
func (systrayKit) separator()             { systray.AddSeparator() }

func (systrayKit) tooltip(text string) {
	panelItem.title(text)
	systray.SetTooltip(text)
}

func (systrayKit) icon(mood mood) {
	panelItem.mood(mood)
	data, template := iconFor(runtime.GOOS, mood)
	// SetIcon panics when the bus has gone; withHost notices that as well, and
	// ends the tray with words.
	defer func() { _ = recover() }()
	if template {
		systray.SetTemplateIcon(data, data)
	} else {
		systray.SetIcon(data)
	}
}

// panelItem is what systray does not say about the icon.
var panelItem statusItem

type systrayEntry struct{ *systray.MenuItem }

func (e *systrayEntry) add(label string) entry {
	return &systrayEntry{e.AddSubMenuItem(label, "")}
}
func (e *systrayEntry) setLabel(label string)    { e.SetTitle(label) }
func (e *systrayEntry) clicked() <-chan struct{} { return e.ClickedCh }

func (e *systrayEntry) setEnabled(on bool) {
	if on {
		e.Enable()
	} else {
		e.Disable()
	}
}

func (e *systrayEntry) setShown(on bool) {
	if on {
		e.Show()
	} else {
		e.Hide()
	}
}

// runTray shows the tray until ctx ends or body returns, which it runs with
// the menu. It must be called on the main goroutine, which systray keeps on the
// main thread. No link comes this way: systray hears of none.
func runTray(ctx context.Context, first mood, _ func(link string), body func(context.Context, *menu) error) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var m *menu
	prepare := func() {
		m = newMenu(systrayKit{})
		m.face(first, "berth")
	}
	if runtime.GOOS != "windows" && runtime.GOOS != "darwin" {
		// What is there before Run costs no message. The title at the start is
		// the item's identity: panels remember by it whether it is hidden.
		systray.SetTitle("berth")
		prepare()
	}
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		select {
		case <-ready:
			ended <- body(ctx, m)
		case <-ctx.Done():
			ended <- nil
		}
		systray.Quit()
	}()
	broken := serveTray(func() {
		if m == nil {
			prepare()
		}
		close(ready)
	})
	cancel()
	err = <-ended
	if m != nil {
		m.close()
	}
	return errors.Join(err, broken)
}

// serveTray runs systray's loop until Quit is called.
func serveTray(ready func()) (err error) {
	defer func() {
		// Quit dereferences nil when the bus was gone already at the start.
		if r := recover(); r != nil {
			err = fmt.Errorf("the tray broke: %v", r)
		}
	}()
	systray.Run(ready, nil)
	return nil
}
