package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"berth/agent/access"
	"berth/agent/ipc"
	"berth/agent/notices"
	"berth/agent/state"
)

// noticeBoard holds what the person is told now.
type noticeBoard struct {
	mu      sync.Mutex // guards all
	tracker *notices.Tracker
	now     []state.Notice
}

// update takes the newest snapshot. Snapshots must come in order.
func (b *noticeBoard) update(s *state.Snapshot, in notices.Input) []state.Notice {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tracker == nil {
		b.tracker = notices.New()
	}
	b.now = b.tracker.Update(s, in)
	if b.now == nil {
		b.now = []state.Notice{}
	}
	return b.now
}

// current is what the last update made of it.
func (b *noticeBoard) current() []state.Notice {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now == nil {
		return []state.Notice{}
	}
	return b.now
}

func (b *noticeBoard) dismiss(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tracker != nil && b.tracker.Dismiss(id)
}

func (a *Agent) noticeInput(now time.Time) notices.Input {
	set, rules := a.current().Notifications, a.current().Access
	return notices.Input{
		Now: now, Enabled: set.On(), Quiet: set.QuietAt(now), WokeAt: a.system.lastWake(),
		Requests:  access.Notify(rules.Notify).WantsRequest,
		Sensitive: func(r state.Request) bool { return rules.IsSensitive(r.Roles) },
	}
}

// DismissNotice says that a notice need not be shown any more.
func (a *Agent) DismissNotice(_ context.Context, id string) error {
	if !a.notices.dismiss(id) {
		return &ipc.Error{Code: ipc.CodeNotFound, Message: fmt.Sprintf("there is no notice %q any more", id)}
	}
	a.touch()
	return nil
}
