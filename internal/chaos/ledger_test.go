package main

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestLedger: what a fault allows is allowed while it is there and for as long as
// it takes to settle, a wrong answer never, and a recovery is measured from the
// end of the cause.
func TestLedger(t *testing.T) {
	lostOne := errors.New("lost")
	for _, tt := range []struct {
		name   string
		allows loss
		deed   func(at func(seconds int) time.Time) deed // the fault is there from second 10 to 20, and settles in 5
		want   string
	}{
		{"fresh_within", fresh, func(at func(int) time.Time) deed {
			return deed{kind: fresh, since: at(12), begin: at(12), end: at(13), err: lostOne}
		}, "1 allowed, 0 needless, 0 wrong"},
		{"fresh_while_it_settles", fresh, func(at func(int) time.Time) deed {
			return deed{kind: fresh, since: at(24), begin: at(24), end: at(26), err: lostOne}
		}, "1 allowed, 0 needless, 0 wrong"},
		{"fresh_afterwards", fresh, func(at func(int) time.Time) deed {
			return deed{kind: fresh, since: at(26), begin: at(26), end: at(27), err: lostOne}
		}, "0 allowed, 1 needless, 0 wrong"},
		{"fresh_before", fresh, func(at func(int) time.Time) deed {
			return deed{kind: fresh, since: at(8), begin: at(8), end: at(9), err: lostOne}
		}, "0 allowed, 1 needless, 0 wrong"},
		{"open_found_late", open, func(at func(int) time.Time) deed {
			return deed{kind: open, since: at(9), begin: at(40), end: at(40), err: lostOne}
		}, "1 allowed, 0 needless, 0 wrong"},
		{"open_that_may_not_be_lost", fresh, func(at func(int) time.Time) deed {
			return deed{kind: open, since: at(9), begin: at(12), end: at(13), err: lostOne}
		}, "0 allowed, 1 needless, 0 wrong"},
		{"open_that_is_refused", fresh, func(at func(int) time.Time) deed {
			return deed{kind: open, since: at(9), begin: at(12), end: at(13), err: fmt.Errorf("%w: x", errRefused)}
		}, "1 allowed, 0 needless, 0 wrong"},
		{"wrong", fresh | open, func(at func(int) time.Time) deed {
			return deed{kind: open, since: at(9), begin: at(12), end: at(13), err: fmt.Errorf("%w: x", errWrong)}
		}, "0 allowed, 0 needless, 1 wrong"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
				l := newLedger()
				time.Sleep(10 * time.Second)
				w := l.start("x", tt.allows, 5*time.Second)
				time.Sleep(10 * time.Second)
				l.stop(w)
				d := tt.deed(at)
				d.client = "c"
				l.add(d)
				r := l.rows([]string{"x"}, nil)[0]
				if got := fmt.Sprintf("%d allowed, %d needless, %d wrong", r.Allowed, r.Needless, r.Wrong); got != tt.want {
					t.Errorf("got %s; want %s", got, tt.want)
				}
			})
		})
	}
}

// TestRecovery: a client that was lost has recovered with its first right answer,
// once for each time that the fault is made.
func TestRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		say := func(err error) {
			l.add(deed{client: "c", kind: fresh, since: time.Now(), begin: time.Now(), end: time.Now(), err: err})
		}
		say(nil)
		w := l.start("x", fresh, time.Second)
		say(errors.New("lost"))
		l.stop(w)
		if got := l.down(); len(got) != 1 {
			t.Errorf("down are %q", got)
		}
		time.Sleep(700 * time.Millisecond)
		say(nil)
		time.Sleep(700 * time.Millisecond)
		say(nil)
		r := l.rows([]string{"x"}, nil)[0]
		if got := fmt.Sprint(r.Recoveries, l.down(), r.Clients, r.Tried); got != "[0.7] [] 1 1" {
			t.Errorf("got %s", got)
		}
	})
}

// TestGrowth fits a line.
func TestGrowth(t *testing.T) {
	at := time.Now()
	all := []size{{At: at, RSS: 10}, {At: at.Add(30 * time.Minute), RSS: 11}, {At: at.Add(time.Hour), RSS: 12}}
	if got := perHour(all, func(s size) float64 { return s.RSS }); got < 1.99 || got > 2.01 {
		t.Errorf("got %v an hour, want 2", got)
	}
}
