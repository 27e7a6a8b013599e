package cocoa

import (
	"fmt"
	"runtime"
	"unsafe"

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

// Call calls a block of the system's: purego's Invoke knows only those that NewBlock made.
func Call(b objc.Block, args ...uintptr) {
	purego.SyscallN((*(**blockLiteral)(unsafe.Pointer(&b))).invoke, append([]uintptr{uintptr(b)}, args...)...)
}

// blockLiteral is how each block begins:
// https://clang.llvm.org/docs/Block-ABI-Apple.html#high-level
type blockLiteral struct {
	_      uintptr  // its class
	_      [2]int32 // flags, and what is reserved
	invoke uintptr
}
