package cocoa

import (
	"testing"

	"github.com/ebitengine/purego"
	"github.com/ebitengine/purego/objc"
)

// TestCall calls a block of libdispatch's, which calls one of Go's.
func TestCall(t *testing.T) {
	var create func(flags uint, block objc.Block) objc.Block
	purego.RegisterLibFunc(&create, purego.RTLD_DEFAULT, "dispatch_block_create")
	calls := 0
	own := objc.NewBlock(func(objc.Block) { calls++ })
	defer own.Release()
	systems := create(0, own)
	defer systems.Release()
	if systems == own {
		t.Fatal("libdispatch returned the block that it was given")
	}
	if Call(systems); calls != 1 {
		t.Errorf("the block was called %d times, want 1", calls)
	}
}

// TestCallPasses: arguments reach the block.
func TestCallPasses(t *testing.T) {
	var got uint64
	b := objc.NewBlock(func(_ objc.Block, n uint64) { got = n })
	defer b.Release()
	if Call(b, 24); got != 24 {
		t.Errorf("the block got %d, want 24", got)
	}
}
