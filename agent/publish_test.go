package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/process"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/survive"
	"berth/internal/testwait"
	"berth/internal/wake"
)

// published is a publisher in a bubble, and what it has published.
type published struct {
	*publisher
	began    time.Time
	starting atomic.Bool // a tunnel is

	mu     sync.Mutex      // guards everything below
	at     []time.Duration // the instants of the snapshots
	follow time.Duration   // the pause after the last one
}

// seen returns the instants at which there were snapshots, and the pause after
// the last one.
func (p *published) seen() (at []time.Duration, pause time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at, p.follow
}

func inBubble(t *testing.T, play func(p *published)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &published{publisher: &publisher{changed: wake.NewSignal(), hurry: wake.NewSignal(), pause: publishPause}, began: time.Now()}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-p.changed:
				}
				if !p.due(ctx, p.starting.Load) {
					return
				}
				p.connecting, p.last = p.starting.Load(), time.Now()
				p.mu.Lock()
				p.at, p.follow = append(p.at, time.Since(p.began)), p.pause
				p.mu.Unlock()
			}
		}()
		play(p)
		synctest.Wait()
		cancel()
		synctest.Wait()
	})
}

// changes makes a change each millisecond, for a time.
func (p *published) changes(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
		p.changed.Wake()
	}
}

// TestStormIsDrawnLessOften: the pause between snapshots grows while changes
// keep coming, and is short again after a calm.
func TestStormIsDrawnLessOften(t *testing.T) {
	inBubble(t, func(p *published) {
		p.changes(3 * time.Second)
		synctest.Wait()
		at, pause := p.seen()
		if n := len(at); n < 12 || n > 16 {
			t.Errorf("%d snapshots of a storm of 3 s, at %v", n, at)
		}
		if pause != publishPauseMax {
			t.Errorf("in a storm the pause is %v, want %v", pause, publishPauseMax)
		}
		time.Sleep(time.Second)
		at, _ = p.seen()
		calm := len(at)
		p.changed.Wake()
		synctest.Wait()
		if at, pause = p.seen(); len(at) != calm+1 || pause != publishPause {
			t.Errorf("after a calm the pause is %v, snapshots %v", pause, at[calm:])
		}
		p.changes(50 * time.Millisecond)
		synctest.Wait()
		if _, pause = p.seen(); pause >= publishPauseMax/2 {
			t.Errorf("after a few changes the pause is %v already", pause)
		}
	})
}

// TestFirstChangeIsSeenAtOnce: it does not wait for what may come with it.
func TestFirstChangeIsSeenAtOnce(t *testing.T) {
	inBubble(t, func(p *published) {
		p.changed.Wake()
		synctest.Wait()
		p.changed.Wake()
		time.Sleep(time.Second)
		if at, _ := p.seen(); len(at) != 2 || at[0] != 0 || at[1] != publishPause {
			t.Errorf("snapshots at %v, want 0 and %v", at, publishPause)
		}
	})
}

// TestStartIsSeenWhenItIsOver: the last tunnel's state does not wait for the long
// pause that the others' have led to, nor does a front end that comes. Both
// shorten one pause.
func TestStartIsSeenWhenItIsOver(t *testing.T) {
	for name, news := range map[string]func(*published){
		"the_last_tunnel": func(p *published) { p.starting.Store(false); p.changed.Wake() },
		"a_front_end":     func(p *published) { p.hurry.Wake() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(p *published) {
				p.starting.Store(true)
				p.changes(time.Second)
				synctest.Wait()
				at, _ := p.seen()
				for time.Since(p.began)-at[len(at)-1] < 2*publishPause {
					p.changes(time.Millisecond)
					synctest.Wait()
					at, _ = p.seen()
				}
				before := len(at)
				news(p)
				synctest.Wait()
				if at, _ = p.seen(); len(at) != before+1 {
					t.Fatalf("it waits %v after the last snapshot", time.Since(p.began)-at[before-1])
				}
				p.changes(publishPauseMax / 2)
				synctest.Wait()
				at, _ = p.seen()
				if n := len(at) - before; n != 1 {
					t.Errorf("%d snapshots in a storm in which it came", n)
				}
			})
		})
	}
}

// TestOnlyPublishedChangesShowLife: an agent that no longer publishes changes is stuck,
// although commands and metrics still publish.
func TestOnlyPublishedChangesShowLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p publisher
		if err := p.alive(); err != nil {
			t.Errorf("at the start: %v", err)
		}
		p.at.Store(new(time.Now()))
		time.Sleep(silentMax)
		if err := p.alive(); err != nil {
			t.Errorf("after %v: %v", silentMax, err)
		}
		time.Sleep(time.Second)
		p.hub.publish(&state.Snapshot{})
		if p.alive() == nil {
			t.Error("what others publish passes for life")
		}
	})
}

// TestPublishingThatFailsShowsNoLife: an agent that meets a bug at each snapshot is stuck.
func TestPublishingThatFailsShowsNoLife(t *testing.T) { // not parallel: every agent of the process meets the bug
	e := newEnv(t, simcluster.Config{})
	e.config()
	a := e.startAgent()
	var met atomic.Int64
	trap := func(what string) {
		if what == "publish a snapshot" {
			met.Add(1)
			panic("a bug in publishing")
		}
	}
	survive.Trap.Store(&trap)
	defer survive.Trap.Store(nil)
	meet := func(times int64) {
		t.Helper()
		testwait.Eventually(t, "the bug to be met", func() bool { a.touch(); return met.Load() >= times })
	}
	meet(1)
	before := a.pub.at.Load()
	if before == nil {
		t.Error("the first snapshot did not show life")
	}
	meet(3) // what comes after the second has been done by then
	if a.pub.at.Load() != before {
		t.Error("a snapshot that failed passes for life")
	}
}

// TestConfigThatTakesLong: while a config is being applied, and a port slow to come
// free, snapshots are published, and whoever waits to have the next one applied may leave.
func TestConfigThatTakesLong(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	item, _ := e.pgTunnel("pg")
	e.config(item)
	a := e.startAgent()
	a.applied.turn.Take(t.Context())
	defer a.applied.turn.Give()
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- a.ReloadConfig(ctx) }()
	before := a.Snapshot()
	a.publish()
	if a.Snapshot() == before {
		t.Error("no snapshot meanwhile")
	}
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("ReloadConfig = %v", err)
	}
}

// TestReplacedProgramIsSeen: the agent looks at its program as time passes, and not for
// each command that publishes.
func TestReplacedProgramIsSeen(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.config()
	path := filepath.Join(t.TempDir(), "berth")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.startWith(func(a *Agent) { a.program = process.ExecutableAt(path) })
	if err := os.WriteFile(path, []byte("newer"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.Await("the upgrade to be seen", func(s state.Snapshot) bool {
		return slices.ContainsFunc(s.Problems, func(p state.Problem) bool { return p.Code == state.CodeProgramReplaced })
	})
}
