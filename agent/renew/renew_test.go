package renew

import (
	"testing"
	"time"

	"berth/agent/state"

	"github.com/google/go-cmp/cmp"
)

func TestDecide(t *testing.T) {
	end := time.Date(2027, 3, 4, 18, 0, 0, 0, time.UTC)
	base := Input{
		ValidFrom: end.Add(-8 * time.Hour), ValidUntil: end, Mode: state.RenewAsk, Before: 15 * time.Minute,
	}
	at := func(left time.Duration) time.Time { return end.Add(-left) }
	auto := func(in *Input) { in.Mode = state.RenewAuto }
	for _, test := range []struct {
		name   string
		left   time.Duration
		change func(*Input)
		action Action
		level  Level
		next   time.Time
	}{
		{"fresh", 7 * time.Hour, nil, Wait, None, at(15 * time.Minute)},
		{"a_moment_too_early", 15*time.Minute + time.Second, nil, Wait, None, at(15 * time.Minute)},
		{"first_warning", 15 * time.Minute, nil, Warn, Soon, at(5 * time.Minute)},
		{"first_put_aside", 14 * time.Minute, func(in *Input) { in.Heard = Soon }, Wait, None, at(5 * time.Minute)},
		{"last_warning_although_the_first_was_put_aside", 5 * time.Minute, func(in *Input) { in.Heard = Soon }, Warn, Last, at(0)},
		{"last_put_aside", 4 * time.Minute, func(in *Input) { in.Heard = Last }, Wait, None, at(0)},
		{"at_the_end", 0, func(in *Input) { in.Heard = Last }, Warn, Ended, time.Time{}},
		{"end_put_aside", -time.Hour, func(in *Input) { in.Heard = Ended }, Wait, None, time.Time{}},
		{"ended_long_ago", -25 * time.Hour, nil, Stop, None, time.Time{}},
		{"quiet_hours", 10 * time.Minute, func(in *Input) { in.Quiet = true }, Wait, None, at(5 * time.Minute)},
		{"off", 10 * time.Minute, func(in *Input) { in.Mode = state.RenewOff }, Stop, None, time.Time{}},
		{"off_and_over", -time.Minute, func(in *Input) { in.Mode = state.RenewOff }, Stop, None, time.Time{}},
		{"logged_out", 0, func(in *Input) { in.ValidUntil = time.Time{} }, Stop, None, time.Time{}},
		{"login_under_way", 10 * time.Minute, func(in *Input) { in.Running = true }, Wait, None, at(5 * time.Minute)},
		{"just_woken", -9 * time.Hour, func(in *Input) { in.WokeAt = in.Now.Add(-3 * time.Second) }, Wait, None, at(-9*time.Hour - 7*time.Second)},
		{"awake_for_a_while", -9 * time.Hour, func(in *Input) { in.WokeAt = in.Now.Add(-10 * time.Second) }, Warn, Ended, time.Time{}},
		{"woken_in_the_future_by_a_clock_set_back", 10 * time.Minute, func(in *Input) { in.WokeAt = in.Now.Add(time.Hour) }, Warn, Soon, at(5 * time.Minute)},

		{"auto_not_yet", time.Hour, auto, Wait, None, at(15 * time.Minute)},
		{"auto_starts", 15 * time.Minute, auto, Login, None, at(5 * time.Minute)},
		{"auto_away", 15 * time.Minute, func(in *Input) { auto(in); in.Away = true }, Wait, None, at(5 * time.Minute)},
		{"auto_away_and_time_runs_out", 4 * time.Minute, func(in *Input) { auto(in); in.Away = true }, Warn, Last, at(0)},
		{"auto_quiet_hours", 10 * time.Minute, func(in *Input) { auto(in); in.Quiet = true }, Wait, None, at(5 * time.Minute)},
		{"auto_over_and_none_waits", -time.Minute, auto, Warn, Ended, time.Time{}},
		{"auto_over_and_somebody_waits", -time.Minute, func(in *Input) { auto(in); in.Waiting = true }, Login, None, time.Time{}},
		{"auto_over_one_waits_person_away", -time.Minute, func(in *Input) { auto(in); in.Waiting, in.Away = true, true }, Warn, Ended, time.Time{}},
		{"auto_silent_at_night", 10 * time.Minute, func(in *Input) { auto(in); in.Silent, in.Away, in.Quiet = true, true, true }, Login, None, at(5 * time.Minute)},
		{"auto_silent_after_the_end", -time.Hour, func(in *Input) { auto(in); in.Silent = true }, Login, None, time.Time{}},
		{"auto_silent_just_woken", -time.Hour, func(in *Input) { auto(in); in.Silent = true; in.WokeAt = in.Now }, Wait, None, at(-time.Hour).Add(wakeQuiet)},
		{"auto_dismissed", 14 * time.Minute, func(in *Input) { auto(in); in.Last = Attempt{At: at(15 * time.Minute), Outcome: Dismissed} }, Warn, Soon, at(5 * time.Minute)},
		{"auto_dismissed_and_put_aside", 14 * time.Minute, func(in *Input) {
			auto(in)
			in.Last, in.Heard = Attempt{At: at(15 * time.Minute), Outcome: Dismissed}, Soon
		}, Wait, None, at(5 * time.Minute)},
		{"auto_refused", 3 * time.Minute, func(in *Input) { auto(in); in.Last = Attempt{At: at(15 * time.Minute), Outcome: Refused} }, Warn, Last, at(0)},
		{"auto_needs_a_person", 14 * time.Minute, func(in *Input) { auto(in); in.Last = Attempt{At: at(15 * time.Minute), Outcome: NeedsPerson} }, Warn, Soon, at(5 * time.Minute)},
		{"auto_failed_just_now", 14*time.Minute + 30*time.Second, func(in *Input) { auto(in); in.Last = Attempt{At: at(15 * time.Minute), Outcome: Failed, Count: 1} }, Wait, None, at(14 * time.Minute)},
		{"auto_failed_a_minute_ago", 14 * time.Minute, func(in *Input) { auto(in); in.Last = Attempt{At: at(15 * time.Minute), Outcome: Failed, Count: 1} }, Login, None, at(5 * time.Minute)},
		{"auto_failed_thrice", 11 * time.Minute, func(in *Input) { auto(in); in.Last = Attempt{At: at(12 * time.Minute), Outcome: Failed, Count: 3} }, Wait, None, at(8 * time.Minute)},
		{"auto_failed_and_time_runs_out", 4 * time.Minute, func(in *Input) {
			auto(in)
			in.Last = Attempt{At: at(4*time.Minute + time.Second), Outcome: Failed, Count: 9}
		}, Warn, Last, at(0)},
		{"auto_failed_and_the_clock_was_set_back", 15 * time.Minute, func(in *Input) { auto(in); in.Last = Attempt{At: at(-9 * time.Hour), Outcome: Failed, Count: 9} }, Login, None, at(5 * time.Minute)},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := base
			in.Now = at(test.left)
			if test.change != nil {
				test.change(&in)
			}
			got := Decide(in)
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
			d := Decide(Input{
				Now: now, ValidFrom: end.Add(-8 * time.Hour), ValidUntil: end, Mode: mode, Before: 15 * time.Minute,
				Quiet: quiet(now), Away: true, Waiting: true,
			})
			if d.Action == Warn {
				t.Errorf("mode %s: a warning at %v", mode, now)
			}
			if d.Action == Login {
				logins++
			}
		}
		if logins != 0 {
			t.Errorf("mode %s: %d logins start at night, with the user away", mode, logins)
		}
	}
}
