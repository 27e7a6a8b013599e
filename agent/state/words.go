package state

import (
	"strings"
	"time"
)

// Instant returns t as snapshots have instants: in UTC and without a monotonic
// reading. The zero time becomes nil.
func Instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.Round(0).UTC())
}

// LowerFirst returns a title or sentence as it reads after a colon. One that begins with
// an abbreviation, as in "PIN needed", stays as it is.
func LowerFirst(s string) string {
	if s == "" || len(s) > 1 && 'A' <= s[1] && s[1] <= 'Z' {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
