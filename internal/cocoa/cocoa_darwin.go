package cocoa

import (
	"fmt"
	"runtime"

	"github.com/ebitengine/purego"
	"github.com/ebitengine/purego/objc"
)

// Load loads frameworks of the system.
func Load(names ...string) error {
	for _, name := range names {
		path := "/System/Library/Frameworks/" + name + ".framework/" + name
		if _, err := purego.Dlopen(path, purego.RTLD_LAZY|purego.RTLD_GLOBAL); err != nil {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return nil
}

// Pool keeps the goroutine on its thread with a pool for what the calls leave
// behind, until the returned function is called.
func Pool() (drain func()) {
	runtime.LockOSThread()
	p := Send(Class("NSAutoreleasePool"), "new")
	return func() {
		Send(p, "drain")
		runtime.UnlockOSThread()
	}
}

// Class returns a class by its name.
func Class(name string) objc.ID { return objc.ID(objc.GetClass(name)) }

// Send sends a message.
func Send(to objc.ID, selector string, args ...any) objc.ID {
	return to.Send(objc.RegisterName(selector), args...)
}

// String returns a string of the system's, which the pool drains.
func String(s string) objc.ID { return Send(Class("NSString"), "stringWithUTF8String:", s) }

// GoString returns a string of Go's.
func GoString(s objc.ID) string {
	if s == 0 {
		return ""
	}
	return objc.Send[string](s, objc.RegisterName("UTF8String"))
}
