package osevents

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

func systemSources() []source {
	return []source{
		{name: "power notifications", covers: coverSleep, listen: listenPower},
		{name: "address notifications", covers: coverNetwork, listen: listenAddresses},
	}
}

var (
	kernel32 = windows.NewLazySystemDLL("kernel32.dll")
	user32   = windows.NewLazySystemDLL("user32.dll")
	wtsapi32 = windows.NewLazySystemDLL("wtsapi32.dll")

	queryUnbiasedInterruptTime = kernel32.NewProc("QueryUnbiasedInterruptTime")
	getTickCount               = kernel32.NewProc("GetTickCount")
	getLastInputInfo           = user32.NewProc("GetLastInputInfo")
	wtsQuerySessionInformation = wtsapi32.NewProc("WTSQuerySessionInformationW")
	wtsFreeMemory              = wtsapi32.NewProc("WTSFreeMemory")
)

// readClock reads the clocks: of two that count since the start one stands
// still during sleep.
func readClock() reading {
	var unbiased uint64 // of 100 ns
	if queryUnbiasedInterruptTime.Find() != nil {
		return portableClock()
	}
	if ok, _, _ := queryUnbiasedInterruptTime.Call(uintptr(unsafe.Pointer(&unbiased))); ok == 0 {
		return portableClock()
	}
	running := time.Duration(unbiased) * 100
	return reading{
		wall: time.Now().Round(0), running: running,
		asleep: windows.DurationSinceBoot() - running, asleepKnown: true,
	}
}

// readRoutes adds the routes of the system.
func readRoutes(add func(string)) {
	var table *windows.MibIpForwardTable2
	if windows.GetIpForwardTable2(windows.AF_UNSPEC, &table) != nil {
		return
	}
	defer windows.FreeMibTable(unsafe.Pointer(table))
	for _, r := range table.Rows() {
		prefix, hop := r.DestinationPrefix.Prefix, r.NextHop
		add(fmt.Sprint(r.InterfaceIndex, r.DestinationPrefix.PrefixLength, prefix, hop))
	}
}

// askSystem asks for what Windows tells only to those who ask, or who have a
// window.
func askSystem(p *Presence) {
	p.Idle, p.IdleKnown = lastInput()
	p.Locked, p.LockKnown = sessionLocked()
}

// lastInput returns the time since the last key press or mouse movement.
func lastInput() (time.Duration, bool) {
	info := struct{ size, ticks uint32 }{size: 8}
	if getLastInputInfo.Find() != nil {
		return 0, false
	}
	if ok, _, _ := getLastInputInfo.Call(uintptr(unsafe.Pointer(&info))); ok == 0 {
		return 0, false
	}
	now, _, _ := getTickCount.Call()
	ms := uint32(now) - info.ticks // both wrap around after 49 days, their difference does not
	return time.Duration(ms) * time.Millisecond, true
}

const (
	currentSession = ^uint32(0)
	sessionInfoEx  = 25 // of WTS_INFO_CLASS
	flagsLocked    = 0
	flagsUnlocked  = 1
)

// sessionInfo is the beginning of WTSINFOEXW; its level 1 is aligned to 8.
type sessionInfo struct {
	level, _  uint32
	sessionID uint32
	state     uint32
	flags     int32
}

// sessionLocked asks for the state of the screen.
func sessionLocked() (locked, known bool) {
	if wtsQuerySessionInformation.Find() != nil || wtsFreeMemory.Find() != nil {
		return false, false
	}
	var info *sessionInfo
	var size uint32
	ok, _, _ := wtsQuerySessionInformation.Call(0, uintptr(currentSession), sessionInfoEx,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)))
	if ok == 0 || info == nil {
		return false, false
	}
	defer wtsFreeMemory.Call(uintptr(unsafe.Pointer(info))) //nolint:errcheck // returns nothing
	if uintptr(size) < unsafe.Sizeof(*info) || info.level != 1 {
		return false, false
	}
	return info.flags == flagsLocked, info.flags == flagsLocked || info.flags == flagsUnlocked
}
