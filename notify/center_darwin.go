package notify

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strconv"
	"sync"

	"github.com/ebitengine/purego/objc"

	"berth/internal/cocoa"
	"berth/internal/survive"
)

const (
	delegateName = "BerthNotificationDelegate"
	textInfo     = "text" // under which a notification keeps the key that a click on its text stands for

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
func newCenter(log *slog.Logger, onResponse func(id, key, text string)) (*center, error) {
	if err := cocoa.Load("Foundation", "UserNotifications"); err != nil {
		return nil, err
	}
	defer cocoa.Pool()()
	bundle := cocoa.Send(cocoa.Class("NSBundle"), "mainBundle")
	if bundle == 0 || cocoa.GoString(cocoa.Send(bundle, "bundleIdentifier")) == "" {
		return nil, errNoBundle
	}
	c := &center{id: cocoa.Send(cocoa.Class("UNUserNotificationCenter"), "currentNotificationCenter"), categories: make(map[string]objc.ID)}
	if c.id == 0 {
		return nil, errors.New("the system has no notification center")
	}
	delegate, err := objc.RegisterClass(delegateName, objc.GetClass("NSObject"),
		[]*objc.Protocol{objc.GetProtocol("UNUserNotificationCenterDelegate")}, nil, []objc.MethodDef{
			{Cmd: objc.RegisterName("userNotificationCenter:didReceiveNotificationResponse:withCompletionHandler:"),
				Fn: func(_ objc.ID, _ objc.SEL, _, response objc.ID, done objc.Block) {
					_ = survive.Do(log, "hear a click on a notification", func() error { // it is logged
						request := cocoa.Send(cocoa.Send(response, "notification"), "request")
						info := cocoa.Send(cocoa.Send(request, "content"), "userInfo")
						onResponse(cocoa.GoString(cocoa.Send(request, "identifier")), cocoa.GoString(cocoa.Send(response, "actionIdentifier")),
							cocoa.GoString(cocoa.Send(info, "objectForKey:", cocoa.String(textInfo))))
						return nil
					})
					cocoa.Call(done)
				}},
			{Cmd: objc.RegisterName("userNotificationCenter:willPresentNotification:withCompletionHandler:"),
				Fn: func(_ objc.ID, _ objc.SEL, _, _ objc.ID, done objc.Block) {
					cocoa.Call(done, presentBanner|presentList)
				}},
		})
	if err != nil {
		return nil, fmt.Errorf("prepare for clicks: %w", err)
	}
	c.delegate = cocoa.Send(cocoa.Send(objc.ID(delegate), "alloc"), "init")
	cocoa.Send(c.id, "setDelegate:", c.delegate)
	return c, nil
}

// authorize asks the person, once, whether berth may show notifications.
func (c *center) authorize(ctx context.Context) error {
	defer cocoa.Pool()()
	done := make(chan error, 1)
	block := objc.NewBlock(func(_ objc.Block, granted bool, failure objc.ID) {
		switch {
		case failure != 0:
			done <- fmt.Errorf("ask for permission: %s", cocoa.GoString(cocoa.Send(failure, "localizedDescription")))
		case !granted:
			done <- errors.New("the system's settings do not allow notifications")
		default:
			done <- nil
		}
	})
	defer block.Release()
	cocoa.Send(c.id, "requestAuthorizationWithOptions:completionHandler:", uint64(authorizeAlert|authorizeSound), block)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// add shows n, or replaces what has its ID.
func (c *center) add(ctx context.Context, n Notification) error {
	defer cocoa.Pool()()
	content := cocoa.Send(cocoa.Send(cocoa.Send(cocoa.Class("UNMutableNotificationContent"), "alloc"), "init"), "autorelease")
	cocoa.Send(content, "setTitle:", cocoa.String(n.Title))
	cocoa.Send(content, "setBody:", cocoa.String(n.Body))
	cocoa.Send(content, "setThreadIdentifier:", cocoa.String(n.Group))
	if len(n.Actions) > 0 {
		cocoa.Send(content, "setCategoryIdentifier:", cocoa.String(c.category(n)))
	}
	cocoa.Send(content, "setUserInfo:",
		cocoa.Send(cocoa.Class("NSDictionary"), "dictionaryWithObject:forKey:", cocoa.String(n.textKey()), cocoa.String(textInfo)))
	level := levelActive
	if n.Urgency <= UrgencyLow {
		level = levelPassive
	}
	if setLevel := objc.RegisterName("setInterruptionLevel:"); objc.Send[bool](content, objc.RegisterName("respondsToSelector:"), setLevel) {
		content.Send(setLevel, uint64(level)) // macOS 12
	}
	if n.Urgency >= UrgencyCritical {
		cocoa.Send(content, "setSound:", cocoa.Send(cocoa.Class("UNNotificationSound"), "defaultSound"))
	}
	request := cocoa.Send(cocoa.Class("UNNotificationRequest"), "requestWithIdentifier:content:trigger:", cocoa.String(n.ID), content, objc.ID(0))
	done := make(chan error, 1)
	block := objc.NewBlock(func(_ objc.Block, failure objc.ID) {
		if failure != 0 {
			done <- fmt.Errorf("show a notification: %s", cocoa.GoString(cocoa.Send(failure, "localizedDescription")))
			return
		}
		done <- nil
	})
	defer block.Release()
	cocoa.Send(c.id, "addNotificationRequest:withCompletionHandler:", request, block)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// remove withdraws what has the ID.
func (c *center) remove(id string) {
	defer cocoa.Pool()()
	ids := cocoa.Send(cocoa.Class("NSArray"), "arrayWithObject:", cocoa.String(id))
	cocoa.Send(c.id, "removePendingNotificationRequestsWithIdentifiers:", ids)
	cocoa.Send(c.id, "removeDeliveredNotificationsWithIdentifiers:", ids)
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
			cocoa.Send(id, "release")
			delete(c.categories, old)
		}
	}
	actions := cocoa.Send(cocoa.Class("NSMutableArray"), "array")
	for _, a := range buttons {
		cocoa.Send(actions, "addObject:", cocoa.Send(cocoa.Class("UNNotificationAction"), "actionWithIdentifier:title:options:",
			cocoa.String(a.Key), cocoa.String(a.Label), uint64(0)))
	}
	category := cocoa.Send(cocoa.Class("UNNotificationCategory"), "categoryWithIdentifier:actions:intentIdentifiers:options:",
		cocoa.String(name), actions, cocoa.Send(cocoa.Class("NSArray"), "array"), uint64(tellDismissal))
	c.categories[name] = cocoa.Send(category, "retain")
	all := cocoa.Send(cocoa.Class("NSMutableSet"), "set")
	for _, id := range c.categories {
		cocoa.Send(all, "addObject:", id)
	}
	cocoa.Send(c.id, "setNotificationCategories:", all)
	return name
}
