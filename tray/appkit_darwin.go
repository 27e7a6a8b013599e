//go:build !cgo

package tray

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/ebitengine/purego/objc"

	"berth/internal/cocoa"
)

const (
	policyAccessory = 1              // NSApplicationActivationPolicyAccessory: no icon in the Dock
	lengthVariable  = -1             // NSVariableStatusItemLength
	eventDefined    = 15             // NSEventTypeApplicationDefined
	iconSize        = 18             // points
	delegateClass   = "BerthTray"    // of the application and of the menu's lines
	actionChosen    = "berthChosen:" // a line was clicked
	actionApply     = "berthApply:"  // changes wait
	actionQuit      = "berthQuit:"   // the loop is to end
	maxLinks        = 4              // that one event may bring
	maxLink         = 8 << 10        // bytes
)

// point is NSPoint and NSSize.
type point struct{ x, y float64 }

func init() { //nolint:gochecknoinits // only here is it sure that this is the main thread, which AppKit insists on
	runtime.LockOSThread()
}

// appKit is the icon in the menu bar, with its menu. Its methods are for the main
// thread.
type appKit struct {
	delegate objc.ID
	button   objc.ID
	menu     objc.ID
	items    map[int]objc.ID // by the number of their line
}

// runTray shows the tray until ctx ends or body returns, which it runs with the
// menu. It must be called on the main goroutine.
func runTray(ctx context.Context, first mood, follow func(link string), body func(context.Context, *menu) error) error {
	defer cocoa.Pool()()
	if err := cocoa.Load("Foundation", "AppKit"); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kit := &appKit{items: make(map[int]objc.ID)}
	lines := &nativeMenu{}
	ready := make(chan struct{})
	var launched atomic.Bool
	err := kit.register(lines, follow, func() {
		if launched.CompareAndSwap(false, true) {
			kit.show()
			close(ready)
		}
	})
	if err != nil {
		return err
	}
	lines.wake = func() { kit.later(actionApply) }
	ended := make(chan error, 1)
	go func() {
		var err error
		select {
		case <-ready:
			m := newMenu(lines)
			m.face(first, "berth")
			err = body(ctx, m)
			m.close()
		case <-ctx.Done():
		}
		ended <- err
		kit.later(actionQuit)
	}()
	app := cocoa.Send(cocoa.Class("NSApplication"), "sharedApplication")
	cocoa.Send(app, "setActivationPolicy:", policyAccessory)
	cocoa.Send(app, "setDelegate:", kit.delegate)
	cocoa.Send(app, "run")
	cancel()
	return <-ended
}

// register makes the object that the system calls.
func (k *appKit) register(lines *nativeMenu, follow func(string), launched func()) error {
	class, err := objc.RegisterClass(delegateClass, objc.GetClass("NSObject"),
		[]*objc.Protocol{objc.GetProtocol("NSApplicationDelegate")}, nil, []objc.MethodDef{
			{Cmd: objc.RegisterName("applicationDidFinishLaunching:"), Fn: func(objc.ID, objc.SEL, objc.ID) { launched() }},
			{Cmd: objc.RegisterName("application:openURLs:"), Fn: func(_ objc.ID, _ objc.SEL, _, urls objc.ID) { openLinks(urls, follow) }},
			{Cmd: objc.RegisterName(actionChosen), Fn: func(_ objc.ID, _ objc.SEL, item objc.ID) {
				lines.click(objc.Send[int](item, objc.RegisterName("tag")))
			}},
			{Cmd: objc.RegisterName(actionApply), Fn: func(objc.ID, objc.SEL, objc.ID) { lines.apply(k) }},
			{Cmd: objc.RegisterName(actionQuit), Fn: func(objc.ID, objc.SEL, objc.ID) { stopLoop() }},
		})
	if err != nil {
		return fmt.Errorf("prepare the menu bar: %w", err)
	}
	k.delegate = cocoa.Send(objc.ID(class), "new")
	return nil
}

// later has the main thread call one of the delegate's actions. It may be called
// from any goroutine.
func (k *appKit) later(action string) {
	cocoa.Send(k.delegate, "performSelectorOnMainThread:withObject:waitUntilDone:", objc.RegisterName(action), objc.ID(0), false)
}

// openLinks hands on the links of an event.
func openLinks(urls objc.ID, follow func(string)) {
	for i := range min(objc.Send[uint](urls, objc.RegisterName("count")), maxLinks) {
		link := cocoa.GoString(cocoa.Send(cocoa.Send(urls, "objectAtIndex:", i), "absoluteString"))
		if follow != nil && len(link) <= maxLink {
			follow(link)
		}
	}
}

// stopLoop ends the application's loop, which looks whether it is to end after
// each event, so that there must be one.
func stopLoop() {
	app := cocoa.Send(cocoa.Class("NSApplication"), "sharedApplication")
	cocoa.Send(app, "stop:", objc.ID(0))
	event := cocoa.Send(cocoa.Class("NSEvent"),
		"otherEventWithType:location:modifierFlags:timestamp:windowNumber:context:subtype:data1:data2:",
		uint(eventDefined), point{}, uint(0), float64(0), 0, objc.ID(0), int16(0), 0, 0)
	cocoa.Send(app, "postEvent:atStart:", event, true)
}

// show puts the icon into the menu bar.
func (k *appKit) show() {
	bar := cocoa.Send(cocoa.Class("NSStatusBar"), "systemStatusBar")
	// It is kept for as long as the process: the bar holds it weakly.
	item := cocoa.Send(cocoa.Send(bar, "statusItemWithLength:", float64(lengthVariable)), "retain")
	k.button = cocoa.Send(item, "button")
	k.menu = newNSMenu()
	cocoa.Send(item, "setMenu:", k.menu)
}

func newNSMenu() objc.ID {
	menu := cocoa.Send(cocoa.Class("NSMenu"), "new")
	cocoa.Send(menu, "setAutoenablesItems:", false) // berth says which lines are grey
	return menu
}

func (k *appKit) addItem(parent, id int, label string) {
	to := k.menu
	if parent != 0 {
		above := k.items[parent]
		if to = cocoa.Send(above, "submenu"); to == 0 {
			to = newNSMenu()
			cocoa.Send(above, "setSubmenu:", to)
		}
	}
	item := cocoa.Send(cocoa.Send(cocoa.Class("NSMenuItem"), "alloc"), "initWithTitle:action:keyEquivalent:",
		cocoa.String(label), objc.RegisterName(actionChosen), cocoa.String(""))
	cocoa.Send(item, "setTarget:", k.delegate)
	cocoa.Send(item, "setTag:", id)
	cocoa.Send(to, "addItem:", item)
	k.items[id] = item
}

func (k *appKit) addLine(id int) {
	k.items[id] = cocoa.Send(cocoa.Class("NSMenuItem"), "separatorItem")
	cocoa.Send(k.menu, "addItem:", k.items[id]) // which keeps it
}

func (k *appKit) setLabel(id int, label string) {
	cocoa.Send(k.items[id], "setTitle:", cocoa.String(label))
}

func (k *appKit) setEnabled(id int, on bool) { cocoa.Send(k.items[id], "setEnabled:", on) }

func (k *appKit) setShown(id int, on bool) { cocoa.Send(k.items[id], "setHidden:", !on) }

// setIcon shows a PNG, which the system paints in the colour of its menu bar.
func (k *appKit) setIcon(png []byte) {
	data := cocoa.Send(cocoa.Class("NSData"), "dataWithBytes:length:", unsafe.Pointer(unsafe.SliceData(png)), uint(len(png)))
	image := cocoa.Send(cocoa.Send(cocoa.Class("NSImage"), "alloc"), "initWithData:", data)
	runtime.KeepAlive(png)
	cocoa.Send(image, "setSize:", point{iconSize, iconSize})
	cocoa.Send(image, "setTemplate:", true)
	cocoa.Send(k.button, "setImage:", image)
	cocoa.Send(image, "release") // the button keeps it
}

// setTip says in words how things are, also to screen readers.
func (k *appKit) setTip(text string) {
	words := cocoa.String(text)
	cocoa.Send(k.button, "setToolTip:", words)
	cocoa.Send(k.button, "setAccessibilityLabel:", words)
}
