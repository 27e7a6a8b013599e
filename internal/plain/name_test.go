package plain_test

import (
	"strings"
	"testing"

	"berth/internal/plain"
)

func TestName(t *testing.T) {
	for in, want := range map[string]string{
		"pg-prod": "pg-prod", "R&D main": "R-D-main", "../../etc": "etc", "": "tunnel", "日本": "tunnel",
		strings.Repeat("a", 99): strings.Repeat("a", 40), strings.Repeat("a", 39) + "-b": strings.Repeat("a", 39),
	} {
		if got := plain.Name(in, 40); got != want {
			t.Errorf("Name(%q) = %q, want %q", in, got, want)
		}
	}
}
