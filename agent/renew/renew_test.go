package renew

import (
	"testing"
	"time"

	"berth/agent/state"

	"github.com/google/go-cmp/cmp"
)

func TestDecide(t *testing.T) {
	end := time.Date(2027, 3, 4, 18, 0, 0, 0, time.UTC)
	base := input{
		ValidFrom: end.Add(-8 * time.Hour), ValidUntil: end, Mode: state.RenewAsk, Before: 15 * time.Minute,
	}
	at := func(left time.Duration) time.Time { return end.Add(-left) }
	auto := func(in *input) { in.Mode = state.RenewAuto }
	for _, test := range []struct {
		name   string
		left   time.Duration
		change func(*input)
		action action
		level  nearness
		next   time.Time
	}{
		{"fresh", 7 * time.Hour, nil, actWait, levelNone, at(15 * time.Minute)},
		{"a_moment_too_early", 15*time.Minute + time.Second, nil, actWait, levelNone, at(15 * time.Minute)},
		{"first_warning", 15 * time.Minute, nil, actWarn, levelSoon, at(5 * time.Minute)},
		{"first_put_aside", 14 * time.Minute, func(in *input) { in.Heard = levelSoon }, actWait, levelNone, at(5 * time.Minute)},
		{"last_warning_although_the_first_was_put_aside", 5 * time.Minute, func(in *input) { in.Heard = levelSoon }, actWarn, levelLast, at(0)},
		{"last_put_aside", 4 * time.Minute, func(in *input) { in.Heard = levelLast }, actWait, levelNone, at(0)},
		{"at_the_end", 0, func(in *input) { in.Heard = levelLast }, actWarn, levelEnded, time.Time{}},
		{"end_put_aside", -time.Hour, func(in *input) { in.Heard = levelEnded }, actWait, levelNone, time.Time{}},
		{"ended_long_ago", -25 * time.Hour, nil, actStop, levelNone, time.Time{}},
		{"quiet_hours", 10 * time.Minute, func(in *input) { in.Quiet = true }, actWait, levelNone, at(5 * time.Minute)},
		{"off", 10 * time.Minute, func(in *input) { in.Mode = state.RenewOff }, actStop, levelNone, time.Time{}},
		{"off_and_over", -time.Minute, func(in *input) { in.Mode = state.RenewOff }, actStop, levelNone, time.Time{}},
		{"logged_out", 0, func(in *input) { in.ValidUntil = time.Time{} }, actStop, levelNone, time.Time{}},
		{"login_under_way", 10 * time.Minute, func(in *input) { in.Running = true }, actWait, levelNone, at(5 * time.Minute)},
		{"login_takes_long", 10 * time.Minute, func(in *input) { in.Running, in.Long = true, true }, actWarn, levelSoon, at(5 * time.Minute)},
		{"auto_login_takes_long", 4 * time.Minute, func(in *input) { auto(in); in.Running, in.Long = true, true }, actWarn, levelLast, at(0)},
		{"just_woken", -9 * time.Hour, func(in *input) { in.WokeAt = in.Now.Add(-3 * time.Second) }, actWait, levelNone, at(-9*time.Hour - 7*time.Second)},
		{"awake_for_a_while", -9 * time.Hour, func(in *input) { in.WokeAt = in.Now.Add(-10 * time.Second) }, actWarn, levelEnded, time.Time{}},
		{"woken_in_the_future_by_a_clock_set_back", 10 * time.Minute, func(in *input) { in.WokeAt = in.Now.Add(time.Hour) }, actWarn, levelSoon, at(5 * time.Minute)},

		{"auto_not_yet", time.Hour, auto, actWait, levelNone, at(15 * time.Minute)},
		{"auto_starts", 15 * time.Minute, auto, actLogin, levelNone, at(5 * time.Minute)},
		{"auto_away", 15 * time.Minute, func(in *input) { auto(in); in.Away = true }, actWait, levelNone, at(5 * time.Minute)},
		{"auto_away_and_time_runs_out", 4 * time.Minute, func(in *input) { auto(in); in.Away = true }, actWarn, levelLast, at(0)},
		{"auto_quiet_hours", 10 * time.Minute, func(in *input) { auto(in); in.Quiet = true }, actWait, levelNone, at(5 * time.Minute)},
		{"auto_over_and_none_waits", -time.Minute, auto, actWarn, levelEnded, time.Time{}},
		{"auto_over_and_somebody_waits", -time.Minute, func(in *input) { auto(in); in.Waiting = true }, actLogin, levelNone, time.Time{}},
		{"auto_over_one_waits_person_away", -time.Minute, func(in *input) { auto(in); in.Waiting, in.Away = true, true }, actWarn, levelEnded, time.Time{}},
		{"auto_silent_at_night", 10 * time.Minute, func(in *input) { auto(in); in.Silent, in.Away, in.Quiet = true, true, true }, actLogin, levelNone, at(5 * time.Minute)},
		{"auto_silent_after_the_end", -time.Hour, func(in *input) { auto(in); in.Silent = true }, actLogin, levelNone, time.Time{}},
		{"auto_silent_just_woken", -time.Hour, func(in *input) { auto(in); in.Silent = true; in.WokeAt = in.Now }, actWait, levelNone, at(-time.Hour).Add(wakeQuiet)},
		{"auto_long_over_and_none_waits", -60 * time.Hour, func(in *input) { auto(in); in.Silent = true }, actStop, levelNone, time.Time{}},
		{"auto_long_over_and_a_client_waits", -60 * time.Hour, func(in *input) { auto(in); in.Waiting = true }, actLogin, levelNone, time.Time{}},
		{"auto_long_over_one_waits_person_away", -60 * time.Hour, func(in *input) { auto(in); in.Waiting, in.Away = true, true }, actStop, levelNone, time.Time{}},
		{"auto_long_over_one_waits_login_dismissed", -60 * time.Hour, func(in *input) { auto(in); in.Waiting = true; in.Last.Outcome = loginDismissed }, actStop, levelNone, time.Time{}},
		{"ask_long_over_and_a_client_waits", -60 * time.Hour, func(in *input) { in.Waiting = true }, actStop, levelNone, time.Time{}},
		{"auto_dismissed", 14 * time.Minute, func(in *input) { auto(in); in.Last = attempt{At: at(15 * time.Minute), Outcome: loginDismissed} }, actWarn, levelSoon, at(5 * time.Minute)},
		{"auto_dismissed_and_put_aside", 14 * time.Minute, func(in *input) {
			auto(in)
			in.Last, in.Heard = attempt{At: at(15 * time.Minute), Outcome: loginDismissed}, levelSoon
		}, actWait, levelNone, at(5 * time.Minute)},
		{"auto_refused", 3 * time.Minute, func(in *input) { auto(in); in.Last = attempt{At: at(15 * time.Minute), Outcome: loginRefused} }, actWarn, levelLast, at(0)},
		{"auto_needs_a_person", 14 * time.Minute, func(in *input) { auto(in); in.Last = attempt{At: at(15 * time.Minute), Outcome: loginNeedsPerson} }, actWarn, levelSoon, at(5 * time.Minute)},
		{"auto_failed_just_now", 14*time.Minute + 30*time.Second, func(in *input) { auto(in); in.Last = attempt{At: at(15 * time.Minute), Outcome: loginFailed, Count: 1} }, actWait, levelNone, at(14 * time.Minute)},
		{"auto_failed_a_minute_ago", 14 * time.Minute, func(in *input) { auto(in); in.Last = attempt{At: at(15 * time.Minute), Outcome: loginFailed, Count: 1} }, actLogin, levelNone, at(5 * time.Minute)},
		{"auto_failed_thrice", 11 * time.Minute, func(in *input) { auto(in); in.Last = attempt{At: at(12 * time.Minute), Outcome: loginFailed, Count: 3} }, actWait, levelNone, at(8 * time.Minute)},
		{"auto_failed_and_time_runs_out", 4 * time.Minute, func(in *input) {
			auto(in)
			in.Last = attempt{At: at(4*time.Minute + time.Second), Outcome: loginFailed, Count: 9}
		}, actWarn, levelLast, at(0)},
		{"auto_failed_and_the_clock_was_set_back", 15 * time.Minute, func(in *input) { auto(in); in.Last = attempt{At: at(-9 * time.Hour), Outcome: loginFailed, Count: 9} }, actLogin, levelNone, at(5 * time.Minute)},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := base
			in.Now = at(test.left)
			if test.change != nil {
				test.change(&in)
			}
			got := decide(in)
			if got.Action != test.action || got.Level != test.level || !got.At.Equal(test.next) {
				t.Errorf("Decide = %v %v at %v (%s), want %v %v at %v", got.Action, got.Level, got.At, got.Why, test.action, test.level, test.next)
			}
			if got.Why == "" {
				t.Error("it does not say why")
			}
		})
	}
}

func TestTimes(t *testing.T) {
	end := time.Date(2027, 3, 4, 18, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name               string
		lifetime, before   time.Duration
		soonLeft, lastLeft time.Duration
	}{
		{"a_day", 12 * time.Hour, 15 * time.Minute, 15 * time.Minute, 5 * time.Minute},
		{"half_an_hour", 30 * time.Minute, 15 * time.Minute, 15 * time.Minute, 5 * time.Minute},
		{"two_minutes", 2 * time.Minute, 15 * time.Minute, time.Minute, 20 * time.Second},
		{"long_before", 12 * time.Hour, 2 * time.Hour, 2 * time.Hour, 5 * time.Minute},
		{"short_before", 12 * time.Hour, 3 * time.Minute, 3 * time.Minute, time.Minute},
		{"certs_that_make_no_sense", -time.Hour, 15 * time.Minute, 15 * time.Minute, 5 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			soon, last := times(end.Add(-test.lifetime), end, test.before)
			if diff := cmp.Diff([]time.Duration{test.soonLeft, test.lastLeft}, []time.Duration{end.Sub(soon), end.Sub(last)}); diff != "" {
				t.Errorf("left at the warnings (-want +got):\n%s", diff)
			}
		})
	}
}

// TestEveryMinuteOfANight walks a session's whole life minute by minute, in
// each mode, and counts what a person would get to see.
func TestEveryMinuteOfANight(t *testing.T) {
	end := time.Date(2027, 3, 4, 23, 30, 0, 0, time.UTC)
	quiet := func(now time.Time) bool { return now.Hour() >= 22 || now.Hour() < 7 }
	for _, mode := range []state.RenewMode{state.RenewAsk, state.RenewAuto, state.RenewOff} {
		logins := 0
		for now := end.Add(-8 * time.Hour); now.Before(end.Add(7 * time.Hour)); now = now.Add(time.Minute) {
			d := decide(input{
				Now: now, ValidFrom: end.Add(-8 * time.Hour), ValidUntil: end, Mode: mode, Before: 15 * time.Minute,
				Quiet: quiet(now), Away: true, Waiting: true,
			})
			if d.Action == actWarn {
				t.Errorf("mode %s: a warning at %v", mode, now)
			}
			if d.Action == actLogin {
				logins++
			}
		}
		if logins != 0 {
			t.Errorf("mode %s: %d logins start at night, with the user away", mode, logins)
		}
	}
}
