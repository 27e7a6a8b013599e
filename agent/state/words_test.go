package state

import "testing"

func TestLowerFirst(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "A": "a", "Login needed": "login needed", "PIN needed": "PIN needed", "CA file unusable": "CA file unusable",
		"A bug in berth": "a bug in berth", "tsh not found": "tsh not found",
	} {
		if got := LowerFirst(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
