//go:build unix

package agent

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"berth/agent/handover"
	"berth/internal/testwait"
	"berth/internal/wake"
)

// newSuccession is that of an agent whose successors are processes of program; it
// hears the agent before it at the other end of the line.
func newSuccession(t *testing.T, program string, args ...string) (s *succession, before *handover.Line) {
	t.Helper()
	near, far, err := handover.Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() }) // a test may have closed it
	fd, err := syscall.Dup(int(far.Fd()))
	if err = errors.Join(err, far.Close()); err != nil {
		t.Fatal(err)
	}
	t.Setenv(handover.FDVar, strconv.Itoa(fd))
	line, err := handover.FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	s = &succession{
		log: slog.New(slog.DiscardHandler), opts: Options{Succession: Succession{Program: program, Args: args}},
		touch: func() {}, changed: wake.NewSignal(),
	}
	s.init(t.Context())
	s.addFormer(&former{line: line})
	s.hear()
	t.Cleanup(func() {
		s.deafen()
		s.endHearing()
	})
	return s, near
}

// TestFailedSuccessorLeavesOneEar: what the agent before says is heard by one goroutine
// still when a successor has failed; two would tear its messages.
func TestFailedSuccessorLeavesOneEar(t *testing.T) {
	s, before := newSuccession(t, "false")
	for range 3 {
		if _, _, err := s.handOver(t.Context(), succeed{}); err == nil {
			t.Fatal("a program that ends at once has taken over")
		}
	}
	for n := range 100 {
		if err := before.Send(handover.Message{Kind: handover.Open, Connections: n + 1}); err != nil {
			t.Fatal(err)
		}
	}
	testwait.Eventually(t, "the last message is heard", func() bool { return s.draining() == 100 })
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	if n := strings.Count(string(stacks), ".hearFormer("); n != 1 {
		t.Errorf("%d goroutines hear the agent before", n)
	}
}

// TestStopEndsSuccessor: an agent that is asked to stop does not wait for a successor
// that never becomes ready.
func TestStopEndsSuccessor(t *testing.T) {
	s, _ := newSuccession(t, "sleep", "600")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.handOver(ctx, succeed{}); !errors.Is(err, errStopping) {
		t.Errorf("the successor of an agent that stops: %v", err)
	}
}
