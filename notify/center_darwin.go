package notify

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"runtime"
	"strconv"
	"sync"

	"github.com/ebitengine/purego"
	"github.com/ebitengine/purego/objc"
)

const (
	frameworks   = "/System/Library/Frameworks/"
	delegateName = "BerthNotificationDelegate"

	authorizeSound = 1 << 1 // UNAuthorizationOptionSound
	authorizeAlert = 1 << 2 // UNAuthorizationOptionAlert

	presentList   = 1 << 3 // UNNotificationPresentationOptionList
	presentBanner = 1 << 4 // UNNotificationPresentationOptionBanner

	tellDismissal = 1 << 0 // UNNotificationCategoryOptionCustomDismissAction

	levelPassive = 0 // UNNotificationInterruptionLevelPassive
	levelActive  = 1 // UNNotificationInterruptionLevelActive

	maxCategories = 64
	maxMacButtons = 3
)

// center is the process's UNUserNotificationCenter.
type center struct {
	id       objc.ID
	delegate objc.ID // kept: the center holds it weakly

	mu         sync.Mutex         // guards categories
	categories map[string]objc.ID // sets of buttons, by their name; retained
}

// newCenter returns the center, whose clicks go to onResponse.
func newCenter(onResponse func(id, key string)) (*center, error) {
	for _, name := range []string{"Foundation", "UserNotifications"} {
		if _, err := purego.Dlopen(frameworks+name+".framework/"+name, purego.RTLD_LAZY|purego.RTLD_GLOBAL); err != nil {
			return nil, fmt.Errorf("load %s: %w", name, err)
		}
	}
	defer pool()()
	bundle := send(class("NSBundle"), "mainBundle")
	if bundle == 0 || goString(send(bundle, "bundleIdentifier")) == "" {
		return nil, errNoBundle
	}
	c := &center{id: send(class("UNUserNotificationCenter"), "currentNotificationCenter"), categories: make(map[string]objc.ID)}
	if c.id == 0 {
		return nil, errors.New("the system has no notification center")
	}
	delegate, err := objc.RegisterClass(delegateName, objc.GetClass("NSObject"),
		[]*objc.Protocol{objc.GetProtocol("UNUserNotificationCenterDelegate")}, nil, []objc.MethodDef{
			{Cmd: objc.RegisterName("userNotificationCenter:didReceiveNotificationResponse:withCompletionHandler:"),
				Fn: func(_ objc.ID, _ objc.SEL, _, response objc.ID, done objc.Block) {
					request := send(send(response, "notification"), "request")
					onResponse(goString(send(request, "identifier")), goString(send(response, "actionIdentifier")))
					done.Invoke()
				}},
			{Cmd: objc.RegisterName("userNotificationCenter:willPresentNotification:withCompletionHandler:"),
				Fn: func(_ objc.ID, _ objc.SEL, _, _ objc.ID, done objc.Block) {
					done.Invoke(uint64(presentBanner | presentList))
				}},
		})
	if err != nil {
		return nil, fmt.Errorf("prepare for clicks: %w", err)
	}
	c.delegate = send(send(objc.ID(delegate), "alloc"), "init")
	send(c.id, "setDelegate:", c.delegate)
	return c, nil
}

// authorize asks the person, once, whether berth may show notifications.
func (c *center) authorize(ctx context.Context) error {
	defer pool()()
	done := make(chan error, 1)
	block := objc.NewBlock(func(_ objc.Block, granted bool, failure objc.ID) {
		switch {
		case failure != 0:
			done <- fmt.Errorf("ask for permission: %s", goString(send(failure, "localizedDescription")))
		case !granted:
			done <- errors.New("the system's settings do not allow notifications")
		default:
			done <- nil
		}
	})
	defer block.Release()
	send(c.id, "requestAuthorizationWithOptions:completionHandler:", uint64(authorizeAlert|authorizeSound), block)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// add shows n, or replaces what has its ID.
func (c *center) add(ctx context.Context, n Notification) error {
	defer pool()()
	content := send(send(send(class("UNMutableNotificationContent"), "alloc"), "init"), "autorelease")
	send(content, "setTitle:", nsString(n.Title))
	send(content, "setBody:", nsString(n.Body))
	send(content, "setThreadIdentifier:", nsString(n.Group))
	if len(n.Actions) > 0 {
		send(content, "setCategoryIdentifier:", nsString(c.category(n)))
	}
	level := levelActive
	if n.Urgency <= UrgencyLow {
		level = levelPassive
	}
	if setLevel := objc.RegisterName("setInterruptionLevel:"); objc.Send[bool](content, objc.RegisterName("respondsToSelector:"), setLevel) {
		content.Send(setLevel, uint64(level)) // macOS 12
	}
	if n.Urgency >= UrgencyCritical {
		send(content, "setSound:", send(class("UNNotificationSound"), "defaultSound"))
	}
	request := send(class("UNNotificationRequest"), "requestWithIdentifier:content:trigger:", nsString(n.ID), content, objc.ID(0))
	done := make(chan error, 1)
	block := objc.NewBlock(func(_ objc.Block, failure objc.ID) {
		if failure != 0 {
			done <- fmt.Errorf("show a notification: %s", goString(send(failure, "localizedDescription")))
			return
		}
		done <- nil
	})
	defer block.Release()
	send(c.id, "addNotificationRequest:withCompletionHandler:", request, block)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// remove withdraws what has the ID.
func (c *center) remove(id string) {
	defer pool()()
	ids := send(class("NSArray"), "arrayWithObject:", nsString(id))
	send(c.id, "removePendingNotificationRequestsWithIdentifiers:", ids)
	send(c.id, "removeDeliveredNotificationsWithIdentifiers:", ids)
}

// category makes the buttons of n known to the center and returns their name.
func (c *center) category(n Notification) string {
	buttons, _ := n.buttons(maxMacButtons)
	sum := fnv.New64a()
	for _, a := range buttons {
		_, _ = fmt.Fprintf(sum, "%q %q ", a.Key, a.Label)
	}
	name := "berth." + strconv.FormatUint(sum.Sum64(), 16)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.categories[name] != 0 {
		return name
	}
	if len(c.categories) >= maxCategories { // the ones before belong to what is long gone
		for old, id := range c.categories {
			send(id, "release")
			delete(c.categories, old)
		}
	}
	actions := send(class("NSMutableArray"), "array")
	for _, a := range buttons {
		send(actions, "addObject:", send(class("UNNotificationAction"), "actionWithIdentifier:title:options:",
			nsString(a.Key), nsString(a.Label), uint64(0)))
	}
	category := send(class("UNNotificationCategory"), "categoryWithIdentifier:actions:intentIdentifiers:options:",
		nsString(name), actions, send(class("NSArray"), "array"), uint64(tellDismissal))
	c.categories[name] = send(category, "retain")
	all := send(class("NSMutableSet"), "set")
	for _, id := range c.categories {
		send(all, "addObject:", id)
	}
	send(c.id, "setNotificationCategories:", all)
	return name
}

// pool keeps the goroutine on its thread with a pool for what the calls leave
// behind, until the returned function is called.
func pool() (drain func()) {
	runtime.LockOSThread()
	p := send(send(class("NSAutoreleasePool"), "alloc"), "init")
	return func() {
		send(p, "drain")
		runtime.UnlockOSThread()
	}
}

func class(name string) objc.ID { return objc.ID(objc.GetClass(name)) }

func send(to objc.ID, selector string, args ...any) objc.ID {
	return to.Send(objc.RegisterName(selector), args...)
}

func nsString(s string) objc.ID { return send(class("NSString"), "stringWithUTF8String:", s) }

func goString(s objc.ID) string {
	if s == 0 {
		return ""
	}
	return objc.Send[string](s, objc.RegisterName("UTF8String"))
}
