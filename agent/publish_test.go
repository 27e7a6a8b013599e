package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/wake"
)

// published is a publisher in a bubble, and the instants at which it publishes.
type published struct {
	*publisher
	began    time.Time
	at       []time.Duration
	starting bool // a tunnel is
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
				if !p.due(ctx, func() bool { return p.starting }) {
					return
				}
				p.connecting, p.last = p.starting, time.Now()
				p.at = append(p.at, time.Since(p.began))
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
		if n := len(p.at); n < 12 || n > 16 {
			t.Errorf("%d snapshots of a storm of 3 s, at %v", n, p.at)
		}
		if p.pause != publishPauseMax {
			t.Errorf("in a storm the pause is %v, want %v", p.pause, publishPauseMax)
		}
		time.Sleep(time.Second)
		calm := len(p.at)
		p.changed.Wake()
		synctest.Wait()
		if len(p.at) != calm+1 || p.pause != publishPause {
			t.Errorf("after a calm the pause is %v, snapshots %v", p.pause, p.at[calm:])
		}
		p.changes(50 * time.Millisecond)
		synctest.Wait()
		if p.pause >= publishPauseMax/2 {
			t.Errorf("after a few changes the pause is %v already", p.pause)
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
		if len(p.at) != 2 || p.at[0] != 0 || p.at[1] != publishPause {
			t.Errorf("snapshots at %v, want 0 and %v", p.at, publishPause)
		}
	})
}

// TestStartIsSeenWhenItIsOver: the last tunnel's state does not wait for the long
// pause that the others' have led to, nor does a front end that comes. Both
// shorten one pause.
func TestStartIsSeenWhenItIsOver(t *testing.T) {
	for name, news := range map[string]func(*published){
		"the_last_tunnel": func(p *published) { p.starting = false; p.changed.Wake() },
		"a_front_end":     func(p *published) { p.hurry.Wake() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(p *published) {
				p.starting = true
				p.changes(time.Second)
				synctest.Wait()
				for since := time.Since(p.began) - p.at[len(p.at)-1]; since < 2*publishPause; since = time.Since(p.began) - p.at[len(p.at)-1] {
					p.changes(time.Millisecond)
					synctest.Wait()
				}
				before := len(p.at)
				news(p)
				synctest.Wait()
				if len(p.at) != before+1 {
					t.Fatalf("it waits %v after the last snapshot", time.Since(p.began)-p.at[before-1])
				}
				p.changes(publishPauseMax / 2)
				synctest.Wait()
				if n := len(p.at) - before; n != 1 {
					t.Errorf("%d snapshots in a storm in which it came", n)
				}
			})
		})
	}
}
