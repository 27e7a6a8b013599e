package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"time"

	"berth/agent/state"
	"berth/internal/survive"
)

// Hook is a program that is run for events.
type Hook struct {
	On      []state.RequestEventKind // empty means every one
	Run     []string                 // the program and its arguments; no shell looks at them
	Timeout time.Duration            // zero means defaultHookTimeout
}

const (
	// defaultHookTimeout is how long a hook may run.
	defaultHookTimeout = 30 * time.Second
	// hookQueue is how many runs may be due before more are left out.
	hookQueue = 100
	// hookGrace is how long a hook that was ended may keep its output open.
	hookGrace = time.Second
)

// Hooks runs hooks, one after the other, so that a program sees events in
// their order.
type Hooks struct {
	log   *slog.Logger
	queue chan hookRun
}

type hookRun struct {
	hook  Hook
	event state.RequestEvent
}

// NewHooks returns Hooks; Run starts it.
func NewHooks(log *slog.Logger) *Hooks {
	return &Hooks{log: log.With("component", "hooks"), queue: make(chan hookRun, hookQueue)}
}

// Fire has the hooks for an event run. It never waits: when too many are due
// the run is left out and logged.
func (h *Hooks) Fire(hooks []Hook, ev state.RequestEvent) {
	for _, hook := range hooks {
		if len(hook.On) > 0 && !slices.Contains(hook.On, ev.Kind) {
			continue
		}
		select {
		case h.queue <- hookRun{hook, ev}:
		default:
			h.log.Warn("hook left out: too many are due", "event", ev.Kind, "request_id", ev.Request.ID)
		}
	}
}

// Run runs what is fired until ctx ends.
func (h *Hooks) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case run := <-h.queue:
			err := survive.Do(h.log, "run a hook", func() error { return runHook(ctx, run.hook, run.event) })
			if err != nil && ctx.Err() == nil {
				h.log.Warn("hook failed", "event", run.event.Kind, "request_id", run.event.Request.ID, "err", err)
			}
		}
	}
}

// runHook runs one hook: the event is its stdin, as one line of JSON. What it
// prints is only looked at when it fails.
func runHook(ctx context.Context, hook Hook, ev state.RequestEvent) error {
	if len(hook.Run) == 0 {
		return errors.New("hook names no program")
	}
	limit := hook.Timeout
	if limit <= 0 {
		limit = defaultHookTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	line, err := json.Marshal(ev)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	cmd := exec.CommandContext(ctx, hook.Run[0], hook.Run[1:]...)
	cmd.Stdin = bytes.NewReader(append(line, '\n'))
	said := &tail{}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.WaitDelay = hookGrace
	err = cmd.Run()
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("hook %q: ended after %s", hook.Run[0], limit)
	case len(said.b) > 0:
		return fmt.Errorf("hook %q: %w: %s", hook.Run[0], err, Clean(string(said.b), maxReason))
	default:
		return fmt.Errorf("hook %q: %w", hook.Run[0], err)
	}
}

// tail keeps the last bytes written to it.
type tail struct{ b []byte }

const tailSize = 500

// Write keeps the end of what there is.
func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > tailSize {
		t.b = slices.Clone(t.b[len(t.b)-tailSize:])
	}
	return len(p), nil
}
