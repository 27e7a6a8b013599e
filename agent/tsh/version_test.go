package tsh

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseVersion(t *testing.T) {
	tests := []struct {
		name, in string
		want     string // empty: an error
	}{
		{"plain", "16.4.10", "16.4.10"},
		{"leading_v", "v15.0.0", "15.0.0"},
		{"text", "Teleport v16.0.0-dev git:v16.0.0-dev.1-2-gabc go1.22.2\n", "16.0.0-dev"},
		{"enterprise_text", "Teleport Enterprise v17.1.0 git:v17.1.0-0-g go1.23", "17.1.0"},
		{"json", `{"version":"18.0.0-alpha.1","gitref":"","runtime":"go1.24.1"}`, "18.0.0-alpha.1"},
		{"json_indented", "{\n    \"version\": \"14.3.3\",\n    \"runtime\": \"go1.21.1\"\n}\n", "14.3.3"},
		{"coloured", "\x1b[1mTeleport\x1b[0m v12.1.5 git:x", "12.1.5"},
		{"build_metadata", "13.2.1+g1234", "13.2.1"},
		{"empty", "", ""},
		{"words", "command not found", ""},
		{"go_version_only", "built with go1.22.2", ""},
		{"two_numbers", "v16.4", ""},
		{"huge", "99999999999999999999.0.0", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := ParseVersion(tt.in)
			if tt.want == "" {
				if err == nil {
					t.Errorf("ParseVersion(%q) = %v, want an error", tt.in, v)
				}
				return
			}
			if err != nil || v.String() != tt.want {
				t.Errorf("ParseVersion(%q) = %v, %v, want %s", tt.in, v, err, tt.want)
			}
		})
	}
}

func TestAtLeast(t *testing.T) {
	tests := []struct {
		v, min string
		want   bool
	}{
		{"16.0.0-dev", "15.0.0", true},
		{"15.0.0", "15.0.0", true},
		{"15.0.0-dev", "15.0.0-aa", true},
		{"14.9.9", "15.0.0-aa", false},
		{"15.0.1", "15.1.0", false},
		{"15.2.0", "15.1.9", true},
		{"9.0.0", "10.0.0", false},
	}
	for _, tt := range tests {
		v, err := ParseVersion(tt.v)
		if err != nil {
			t.Fatal(err)
		}
		least, err := ParseVersion(tt.min)
		if err != nil {
			t.Fatal(err)
		}
		if got := v.AtLeast(least); got != tt.want {
			t.Errorf("%v.AtLeast(%v) = %v, want %v", v, least, got, tt.want)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add("Teleport v16.0.0-dev git:x go1.22")
	f.Add(`{"version":"1.2.3"}`)
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVersion(s)
		if err != nil {
			return
		}
		again, err := ParseVersion(v.String())
		if err != nil || again != v {
			t.Errorf("ParseVersion(%q) = %v, which parses as %v, %v", s, v, again, err)
		}
	})
}

func TestReadVersion(t *testing.T) {
	for part, want := range map[string]string{"version_json": "17.2.1", "version_text": "13.4.26"} {
		t.Run(part, func(t *testing.T) {
			v, err := ReadVersion(t.Context(), useFake(t, part))
			if err != nil || v.String() != want {
				t.Errorf("ReadVersion = %v, %v, want %s", v, err, want)
			}
		})
	}
	t.Run("not_tsh", func(t *testing.T) {
		_, err := ReadVersion(t.Context(), useFake(t, "exits"))
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Code != 1 {
			t.Errorf("ReadVersion of a program that fails: %v, want an ExitError", err)
		}
	})
	t.Run("slow", func(t *testing.T) {
		program := useFake(t, "hangs")
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := ReadVersion(ctx, program); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ReadVersion of a program that hangs: %v, want the end of its time", err)
		}
	})
	t.Run("missing", func(t *testing.T) {
		_, err := ReadVersion(t.Context(), filepath.Join(t.TempDir(), "tsh"))
		if _, ok := errors.AsType[*NotFoundError](err); !ok {
			t.Errorf("ReadVersion of a missing program: %v, want a NotFoundError", err)
		}
		if err != nil && !strings.Contains(err.Error(), "tsh version") {
			t.Errorf("the error %q does not name the command", err)
		}
	})
}
