package osevents

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"
)

// A callback that the system calls cannot be freed: a process has one of each
// kind, which calls all listeners.
var (
	powerCallback  = sync.OnceValue(func() uintptr { return windows.NewCallback(onPower) })
	changeCallback = sync.OnceValue(func() uintptr { return windows.NewCallback(onChange) })

	onPowerCall, onChangeCall listeners
)

// listeners are the functions that a callback calls.
type listeners struct {
	mu  sync.Mutex // guards all
	all map[*func(kind uintptr)]struct{}
}

// add has f called from now on, until the returned function is called.
func (l *listeners) add(f func(kind uintptr)) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = make(map[*func(uintptr)]struct{})
	}
	l.all[&f] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.all, &f)
	}
}

func (l *listeners) call(kind uintptr) {
	l.mu.Lock()
	all := slices.Collect(maps.Keys(l.all))
	l.mu.Unlock()
	for _, f := range all {
		(*f)(kind)
	}
}

func onPower(_, kind, _ uintptr) uintptr {
	onPowerCall.call(kind)
	return 0
}

func onChange(_, _, kind uintptr) uintptr {
	onChangeCall.call(kind)
	return 0
}

var (
	powrprof        = windows.NewLazySystemDLL("powrprof.dll")
	registerPower   = powrprof.NewProc("PowerRegisterSuspendResumeNotification")
	unregisterPower = powrprof.NewProc("PowerUnregisterSuspendResumeNotification")
)

const (
	deviceNotifyCallback = 2 // DEVICE_NOTIFY_CALLBACK

	powerSuspend         = 0x4  // PBT_APMSUSPEND
	powerResumeSuspend   = 0x7  // PBT_APMRESUMESUSPEND: by the user
	powerResumeAutomatic = 0x12 // PBT_APMRESUMEAUTOMATIC: always, and first
)

// listenPower is called before the machine sleeps, for two seconds at most, and
// after it has woken.
func listenPower(ctx context.Context, m *Monitor, up func()) error {
	if registerPower.Find() != nil || unregisterPower.Find() != nil {
		return errors.ErrUnsupported
	}
	end := onPowerCall.add(func(kind uintptr) {
		switch kind {
		case powerSuspend:
			select {
			case <-m.suspending("power"):
			case <-ctx.Done():
			}
		case powerResumeAutomatic, powerResumeSuspend:
			m.lookAtClock("power", true)
		}
	})
	defer end()
	parameters := &struct{ callback, context uintptr }{callback: powerCallback()}
	var handle uintptr
	code, _, _ := registerPower.Call(deviceNotifyCallback, uintptr(unsafe.Pointer(parameters)), uintptr(unsafe.Pointer(&handle)))
	if code != 0 {
		return fmt.Errorf("listen to power events: %w", windows.Errno(code))
	}
	up()
	<-ctx.Done()
	_, _, _ = unregisterPower.Call(handle) // the process ends soon, or does not care
	return ctx.Err()
}

// listenAddresses is called when an interface, an address or a route changes.
func listenAddresses(ctx context.Context, m *Monitor, up func()) error {
	changes := make(chan struct{}, 1)
	hint(changes) // for what came before the callbacks were registered
	end := onChangeCall.add(func(uintptr) { hint(changes) })
	defer end()
	type registering func(family uint16, callback uintptr, context unsafe.Pointer, initial bool, handle *windows.Handle) error
	for _, r := range []registering{
		windows.NotifyIpInterfaceChange, windows.NotifyUnicastIpAddressChange, windows.NotifyRouteChange2,
	} {
		var handle windows.Handle
		if err := r(windows.AF_UNSPEC, changeCallback(), nil, false, &handle); err != nil {
			return fmt.Errorf("listen to changes of the network: %w", err)
		}
		defer windows.CancelMibChangeNotify2(handle) //nolint:errcheck // it may have gone
	}
	up()
	afterChanges(ctx, changes, func() { m.lookAtNetwork("addresses") })
	return ctx.Err()
}
