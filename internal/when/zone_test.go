package when

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"berth/internal/testneeds"
)

// TestMain lets the test binary print an instant as a program with its
// environment would.
func TestMain(m *testing.M) {
	if os.Getenv("WHEN_PRINTS") != "" {
		UseZone(os.LookupEnv)
		at := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
		_, _ = os.Stdout.WriteString(Clock(at, at) + ", " + Format(at.AddDate(0, 6, 0), "15:04"))
		return
	}
	os.Exit(m.Run())
}

func TestUseZone(t *testing.T) {
	testneeds.Unix(t, "Windows has no TZ")
	_, err := time.LoadLocation("Europe/Berlin")
	testneeds.Here(t, "zone data", err)
	for name, tc := range map[string]struct{ tz, want string }{
		"rule":               {"CET-1CEST", "13:00, 14:00"},
		"rule_with_dates":    {"CET-1CEST,M3.5.0,M10.5.0/3", "13:00, 14:00"},
		"rule_without_dst":   {"XYZ5", "07:00, 07:00"},
		"rule_in_brackets":   {"<+03>-3", "15:00, 15:00"},
		"rule_after_a_colon": {":CET-1CEST", "13:00, 14:00"},
		"name":               {"Europe/Berlin", "13:00, 14:00"},
		"name_after_a_colon": {":Europe/Berlin", "13:00, 14:00"},
		"file":               {":/usr/share/zoneinfo/Europe/Berlin", "13:00, 14:00"},
		"utc":                {"UTC", "12:00, 12:00"},
		"empty":              {"", "12:00, 12:00"},
		"no_zone_data":       {"Nowhere/City", "12:00 UTC, 12:00 UTC"},
		"no_such_file":       {":/nowhere/localtime", "12:00 UTC, 12:00 UTC"},
		"no_rule":            {"1-2-3", "12:00 UTC, 12:00 UTC"},
		"half_a_rule":        {"CET-", "12:00 UTC, 12:00 UTC"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = []string{"WHEN_PRINTS=1", "TZ=" + tc.tz}
			out, err := cmd.Output()
			if err != nil || string(out) != tc.want {
				t.Errorf("TZ=%s: %q, %v; want %q", tc.tz, out, err, tc.want)
			}
		})
	}
}

// The C library's zone is ours.
func TestZoneOfTheSystem(t *testing.T) {
	date := testneeds.Program(t, "date")
	for _, tz := range []string{"CET-1CEST", ":/etc/localtime", "EST5EDT", "<-0330>3:30"} {
		cmd := exec.CommandContext(t.Context(), date, "-d", "2026-01-02 12:00 UTC", "+%H:%M")
		cmd.Env = []string{"TZ=" + tz, "LC_ALL=C"}
		want, err := cmd.Output()
		testneeds.Here(t, "GNU date", err)
		cmd = exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = []string{"WHEN_PRINTS=1", "TZ=" + tz}
		got, err := cmd.Output()
		if clock, _, _ := strings.Cut(string(got), ","); err != nil || clock != strings.TrimSpace(string(want)) {
			t.Errorf("TZ=%s: %q, %v; date prints %q", tz, got, err, want)
		}
	}
}
