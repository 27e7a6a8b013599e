package when

import (
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	now := time.Date(2026, 3, 4, 9, 0, 0, 0, time.Local)
	for name, tc := range map[string]struct {
		at            time.Time
		want, seconds string
	}{
		"today":       {now.Add(time.Hour + 5*time.Second), "10:00", "10:00:05"},
		"yesterday":   {now.Add(-10 * time.Hour), "Tue 23:00", "Tue 23:00"},
		"this_week":   {now.Add(5 * 24 * time.Hour), "Mon 09:00", "Mon 09:00"},
		"next_week":   {now.Add(7 * 24 * time.Hour), "2026-03-11 09:00", "2026-03-11 09:00"},
		"a_year_ago":  {now.AddDate(-1, 0, 0), "2025-03-04 09:00", "2025-03-04 09:00"},
		"other_place": {now.In(time.FixedZone("far", 11*3600)), "09:00", "09:00:00"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Clock(tc.at, now); got != tc.want {
				t.Errorf("Clock: %q, want %q", got, tc.want)
			}
			if got := ClockSeconds(tc.at, now); got != tc.seconds {
				t.Errorf("ClockSeconds: %q, want %q", got, tc.seconds)
			}
		})
	}
}

func TestSpan(t *testing.T) {
	for name, tc := range map[string]struct {
		d             time.Duration
		want, seconds string
	}{
		"past":    {-time.Minute, "0 min", "-60 s"},
		"nothing": {0, "0 min", "0 s"},
		"seconds": {59*time.Second + 400*time.Millisecond, "under 1 min", "59 s"},
		"minutes": {59*time.Minute + 59*time.Second, "59 min", "59 min"},
		"hours":   {7*time.Hour + 5*time.Minute, "7 h 5 min", "7 h 5 min"},
		"a_day":   {47 * time.Hour, "47 h 0 min", "47 h 0 min"},
		"days":    {50 * time.Hour, "2 days", "2 days"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Span(tc.d); got != tc.want {
				t.Errorf("Span: %q, want %q", got, tc.want)
			}
			if got := SpanSeconds(tc.d); got != tc.seconds {
				t.Errorf("SpanSeconds: %q, want %q", got, tc.seconds)
			}
		})
	}
}
