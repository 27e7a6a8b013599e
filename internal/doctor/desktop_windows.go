package doctor

import (
	"context"
	"unsafe"

	"golang.org/x/sys/windows"
)

// taskbar is the class of the window that holds icons.
const taskbar = "Shell_TrayWnd"

var findWindow = windows.NewLazySystemDLL("user32.dll").NewProc("FindWindowW")

// Desktop looks for the taskbar, which a session without a desktop lacks.
// Notifications are part of the system.
func Desktop(context.Context) []Finding {
	class, err := windows.UTF16PtrFromString(taskbar)
	if err != nil {
		return one("tray_host", Warn, err.Error(), "")
	}
	if window, _, _ := findWindow.Call(uintptr(unsafe.Pointer(class)), 0); window == 0 {
		return one("tray_host", Warn, "there is no taskbar in this session, so no icon is shown", "log in at the desktop; all else works without")
	}
	return append(one("tray_host", OK, "the taskbar shows the icon", ""), one("notifications", OK, "notifications are part of the system", "")...)
}
