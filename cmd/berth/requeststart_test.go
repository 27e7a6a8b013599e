package main

import (
	"testing"
	"time"
)

func TestParseStart(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.Local)
	for name, c := range map[string]struct {
		start string
		want  time.Time // zero means at once
		bad   bool
	}{
		"at_once":       {start: ""},
		"later_today":   {start: "18:30", want: time.Date(2026, 5, 4, 18, 30, 0, 0, time.Local)},
		"tomorrow":      {start: "09:00", want: time.Date(2026, 5, 5, 9, 0, 0, 0, time.Local)},
		"this_minute":   {start: "12:00", want: time.Date(2026, 5, 5, 12, 0, 0, 0, time.Local)},
		"with_a_date":   {start: "2026-05-06T07:08:09Z", want: time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)},
		"no_time":       {start: "noon", bad: true},
		"no_such_time":  {start: "25:00", bad: true},
		"without_zeros": {start: "9", bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			o := requestCreateOptions{start: c.start}
			err := o.parseStart(now)
			var got time.Time
			if o.Start != nil {
				got = *o.Start
			}
			if (err != nil) != c.bad || !got.Equal(c.want) {
				t.Errorf("parseStart(%q) = %v, %v; want %v", c.start, got, err, c.want)
			}
		})
	}
}
