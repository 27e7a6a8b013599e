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

func TestDidYouMean(t *testing.T) {
	names := []string{"prod-pg", "prod-my", "staging", "eu-1x", "eu-2x", "eu-3x", "eu-4x"}
	for got, want := range map[string]string{
		"prdo-pg": `did you mean "prod-pg"?`, "stag": `did you mean "staging"?`, "PROD": `did you mean "prod-pg" or "prod-my"?`,
		"g": "", "eu": "", "other": "", "": "", strings.Repeat("p", 1<<16): "",
	} {
		if ask := plain.DidYouMean(got, names); ask != want {
			t.Errorf("DidYouMean(%.20q) = %q, want %q", got, ask, want)
		}
	}
}
