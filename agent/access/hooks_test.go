package access

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
	"berth/internal/testwait"
)

// hookProgram is the test binary run as a hook: it appends its arguments and
// stdin to a file, fails, or sleeps.
func hookProgram() {
	switch os.Getenv("BERTH_TEST_HOOK") {
	case "fail":
		fmt.Fprintln(os.Stderr, "\x1b[31mno luck")
		os.Exit(3)
	case "sleep":
		testwait.Hang()
	}
	line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	f, err := os.OpenFile(os.Args[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		os.Exit(4)
	}
	fmt.Fprintf(f, "%s|%s", os.Args[2], line)
	_ = f.Close()
}

func TestHook(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	ev := state.RequestEvent{Kind: state.RequestEventApproved, At: start, Request: state.Request{ID: "a", Reason: "; rm -rf $HOME"}}
	t.Setenv("BERTH_TEST_HOOK", "write")
	hook := Hook{Run: []string{self, out, "$(id)"}, On: []state.RequestEventKind{state.RequestEventApproved}}
	h := NewHooks(slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx) }()
	h.Fire([]Hook{hook}, ev)
	h.Fire([]Hook{hook}, state.RequestEvent{Kind: state.RequestEventDenied}) // not asked for
	var text string
	testwait.Eventually(t, "the hook's line", func() bool {
		raw, _ := os.ReadFile(out)
		text = string(raw)
		return strings.HasSuffix(text, "\n")
	})
	cancel()
	<-done
	arg, line, _ := strings.Cut(text, "|")
	var got state.RequestEvent
	if err := json.Unmarshal([]byte(line), &got); err != nil || got.Request.ID != "a" || got.Kind != ev.Kind || arg != "$(id)" {
		t.Errorf("the hook got %q and %q, %v", arg, line, err)
	}
	t.Setenv("BERTH_TEST_HOOK", "fail")
	if err := runHook(t.Context(), hook, ev); err == nil || !strings.Contains(err.Error(), "no luck") || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("a failing hook: %v", err)
	}
	t.Setenv("BERTH_TEST_HOOK", "sleep")
	hook.Timeout = 100 * time.Millisecond
	began := time.Now()
	if err := runHook(t.Context(), hook, ev); err == nil || !strings.Contains(err.Error(), "ended after 100ms") {
		t.Errorf("a slow hook: %v", err)
	}
	testwait.Soon(t, "a slow hook", time.Since(began), 5*time.Second)
	if err := runHook(t.Context(), Hook{}, ev); err == nil {
		t.Error("a hook without a program ran")
	}
}
