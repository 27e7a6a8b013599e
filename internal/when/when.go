// Package when words instants and spans of time for people, the same in the
// terminal, in the menu and in notifications.
package when

import (
	"fmt"
	"time"
)

// near is how far away a day of the week still names one day.
const near = 6 * 24 * time.Hour

// Clock words an instant in local time, to the minute: with the day of the
// week unless it is today, with the date when it is far away.
func Clock(t, now time.Time) string { return clock(t, now, "15:04") }

// ClockSeconds is Clock with the seconds of an instant of today.
func ClockSeconds(t, now time.Time) string { return clock(t, now, "15:04:05") }

func clock(t, now time.Time, today string) string {
	t, now = t.Local(), now.Local()
	switch {
	case t.YearDay() == now.YearDay() && t.Year() == now.Year():
		return Format(t, today)
	case t.Sub(now).Abs() < near:
		return Format(t, "Mon 15:04")
	default:
		return Format(t, "2006-01-02 15:04")
	}
}

// Span words a span of time by the minute, so that what shows it need not be
// drawn more often.
func Span(d time.Duration) string {
	switch {
	case d <= 0:
		return "0 min"
	case d < time.Minute:
		return "under 1 min"
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%d days", int(d.Hours())/24)
	}
}

// SpanSeconds is Span with the seconds of what is shorter than a minute.
func SpanSeconds(d time.Duration) string {
	if d = d.Round(time.Second); d < time.Minute {
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	return Span(d)
}

// Wait words how long something waited: to the tenth of a second at first, then
// by the second, then by the minute.
func Wait(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Round(time.Second).Seconds()))
	default:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute).Minutes()))
	}
}
