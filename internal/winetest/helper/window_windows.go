package main

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	user32          = windows.NewLazySystemDLL("user32.dll")
	findWindow      = user32.NewProc("FindWindowW")
	isWindowVisible = user32.NewProc("IsWindowVisible")
)

// windowSeen reports whether a window of a class is on the screen.
func windowSeen(class string) bool {
	name, err := windows.UTF16PtrFromString(class)
	if err != nil {
		return false
	}
	window, _, _ := findWindow.Call(uintptr(unsafe.Pointer(name)), 0)
	if window == 0 {
		return false
	}
	seen, _, _ := isWindowVisible.Call(window)
	return seen != 0
}
