// Package notify shows notifications with buttons through the desktop's own
// service and reports which button was pressed.
//
// A Notifier only draws: its caller decides what is worth a notification and
// what a button does. It promises
//
//   - that each ID has one notification on the screen at most, which is
//     replaced when its words change and withdrawn by Close;
//   - that text from others arrives as text: cut, without control characters,
//     never as markup, XML or code;
//   - that a click counts once, only for what was shown, and only when it comes
//     from the notification service;
//   - that it lives through a service that is absent, slow, restarted or has no
//     buttons, and says so in Capabilities;
//   - that it never starts a message bus and wakes up only when there is
//     something to do.
//
// There is one backend for each system:
//
//	Linux, BSD  org.freedesktop.Notifications over D-Bus
//	Windows     toasts, through COM
//	macOS       UNUserNotificationCenter, inside an application bundle
//
// Where that cannot be had, a plain notification without buttons is tried
// before Show gives up with ErrUnavailable; not so on Windows, where what is
// plain would be a script made of the words.
package notify
