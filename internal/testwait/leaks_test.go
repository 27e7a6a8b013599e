package testwait

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

type tests func() int

func (f tests) Run() int { return f() }

// TestNoLeaks: a goroutine that ends late is no leak, and one that does not end is.
func TestNoLeaks(t *testing.T) {
	for after, leaks := range map[time.Duration]bool{time.Minute: false, time.Hour: true} {
		synctest.Test(t, func(t *testing.T) {
			others := goleak.IgnoreCurrent()
			left := tests(func() int { go time.Sleep(after); return 0 })
			if code := (settling{left, []goleak.Option{others}}).Run(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if err := goleak.Find(others); (err != nil) != leaks {
				t.Errorf("a goroutine that ends after %v: %v", after, err)
			}
			time.Sleep(after) // a bubble cannot end before its goroutines
		})
	}
}
