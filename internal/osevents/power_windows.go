package osevents

import "unsafe"

var getSystemPowerStatus = kernel32.NewProc("GetSystemPowerStatus")

// onBattery reports whether the machine runs on its battery.
func onBattery() bool {
	var status struct {
		line, flag, percent, saver byte
		left, full                 uint32
	}
	if getSystemPowerStatus.Find() != nil {
		return false
	}
	ok, _, _ := getSystemPowerStatus.Call(uintptr(unsafe.Pointer(&status)))
	return ok != 0 && status.line == 0
}
