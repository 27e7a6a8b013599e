package pty_test

import (
	"bufio"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"berth/internal/pty"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// TestEndsBelongTogether opens many terminals while their goroutines' stacks move, as they
// do when garbage is collected: what is typed at one end arrives at the other.
func TestEndsBelongTogether(t *testing.T) {
	t.Parallel()
	ours, child, err := pty.Open()
	testneeds.Here(t, "a pseudo terminal", err)
	if err := errors.Join(ours.Close(), child.Close()); err != nil {
		t.Error(err)
	}
	var openers sync.WaitGroup
	for range 8 {
		openers.Go(func() {
			for range 800 {
				deep(400)
				talks(t)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		openers.Wait()
		close(done)
	}()
	for {
		runtime.GC() // stacks that have become too large shrink
		select {
		case <-done:
			return
		default:
		}
	}
}

// deep has the stack grow for n calls.
func deep(n int) byte {
	var room [64]byte
	if n > 0 {
		room[n%len(room)] = deep(n - 1)
	}
	return room[n%len(room)]
}

func talks(t *testing.T) {
	ours, child, err := pty.Open()
	if err != nil {
		t.Error(err)
		return
	}
	defer ours.Close()
	defer child.Close()
	if err := child.SetReadDeadline(time.Now().Add(testwait.Patience)); err != nil {
		t.Error(err)
	}
	if _, err := ours.WriteString("typed\n"); err != nil {
		t.Error(err)
	}
	if got, err := bufio.NewReader(child).ReadString('\n'); err != nil || got != "typed\n" {
		t.Errorf("the other end of %s reads %q, %v", child.Name(), got, err)
	}
}
