package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// quantile is the value below which the share q of the values lies; the
// values need not be in order. It panics if there are none.
func quantile[T cmp.Ordered](values []T, q float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// median is the middle value, the upper one of two.
func median[T cmp.Ordered](values []T) T { return quantile(values, 0.5) }

// spread words the median of several rounds, and between which values they lay.
func spread(values []float64, format string) string {
	if len(values) == 1 {
		return fmt.Sprintf(format, values[0])
	}
	return fmt.Sprintf(format+" ("+format+"–"+format+")", median(values), slices.Min(values), slices.Max(values))
}

// mb writes bytes in units of 10⁶, as networks and the budgets count.
func mb(bytes float64) string {
	return fmt.Sprintf("%.1f MB", bytes/1e6)
}

func ms(d time.Duration) string {
	switch v := float64(d) / float64(time.Millisecond); {
	case v < 10:
		return fmt.Sprintf("%.2f ms", v)
	case v < 100:
		return fmt.Sprintf("%.1f ms", v)
	default:
		return fmt.Sprintf("%.0f ms", v)
	}
}

// collect calls f so many times and returns what it gave.
func collect[T any](times int, f func(round int) (T, error)) ([]T, error) {
	var all []T
	for round := range times {
		v, err := f(round)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// each returns one property of all values.
func each[T, P any](values []T, property func(T) P) []P {
	var all []P
	for _, v := range values {
		all = append(all, property(v))
	}
	return all
}
