package testwait

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// failed records how a test of the helpers would have ended.
type failed struct {
	testing.TB
	text string
}

func (f *failed) Helper() {}

func (f *failed) Fatalf(format string, args ...any) {
	f.text = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// ending runs a wait and returns what it failed with.
func ending(wait func(testing.TB)) string {
	f := &failed{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		wait(f)
	}()
	<-done
	return f.text
}

func TestEventually(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		after := func(d time.Duration) func() bool { return func() bool { return time.Since(began) >= d } }
		if text := ending(func(tb testing.TB) { Eventually(tb, "an hour", after(time.Hour)) }); text != "waited 2m0s in vain for: an hour" {
			t.Errorf("failed with %q", text)
		}
		if text := ending(func(tb testing.TB) { Eventually(tb, "three quarters", after(45*time.Second)) }); text != "" {
			t.Errorf("failed with %q", text)
		}
	})
}

func TestNever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		after := func(d time.Duration) func() bool { return func() bool { return time.Since(began) >= d } }
		if text := ending(func(tb testing.TB) { Never(tb, "a second", after(time.Second)) }); text != "" {
			t.Errorf("failed with %q", text)
		}
		if text := ending(func(tb testing.TB) { Never(tb, "the past", after(0)) }); text != "this must not happen: the past" {
			t.Errorf("failed with %q", text)
		}
	})
}

// Whatever the machine does, what takes a hundred times too long is seen, and what
// takes half of what it may is not.
func TestSoon(t *testing.T) {
	r := &reported{}
	Soon(r, "a thing", time.Second, 2*time.Second)
	if r.text != "" {
		t.Errorf("in time: %q", r.text)
	}
	busy := slower()
	if busy < 1 {
		t.Errorf("the machine is %v times slower than by itself", busy)
	}
	Soon(r, "a thing", time.Duration(100*busy)*time.Second, time.Second)
	if !strings.HasPrefix(r.text, "a thing took ") {
		t.Errorf("too late: %q", r.text)
	}
}

type reported struct {
	testing.TB
	text string
}

func (r *reported) Helper() {}

func (r *reported) Errorf(format string, args ...any) { r.text = fmt.Sprintf(format, args...) }
