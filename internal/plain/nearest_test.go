package plain_test

import (
	"strings"
	"testing"

	"berth/internal/plain"
)

func TestNearest(t *testing.T) {
	names := []string{"prod-pg", "prod-my", "größe", "x"}
	for got, want := range map[string]string{
		"prod-pgg": "prod-pg", "prdo-pg": "prod-pg", "PROD-PG": "prod-pg", "prod": "", "grösse": "größe", "y": "x", "staging": "", "": "",
		strings.Repeat("p", 1<<16): "",
	} {
		if near := plain.Nearest(got, names, strings.ToLower); near != want {
			t.Errorf("Nearest(%.20q) = %q, want %q", got, near, want)
		}
	}
}
