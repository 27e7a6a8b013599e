package renew

import (
	"fmt"
	"os"
	"testing"

	"berth/agent/login"
	"berth/agent/tsh"
)

func TestOutcomes(t *testing.T) {
	failed := func(reason error) error { return &tsh.LoginError{Reason: reason} }
	for _, test := range []struct {
		name  string
		err   error
		shown bool
		want  Outcome
	}{
		{"done", nil, true, NotTried},
		{"cancelled", login.ErrLeft, true, Dismissed},
		{"page_left_open", failed(tsh.ErrLoginTimeout), true, Dismissed},
		{"nothing_came", failed(tsh.ErrLoginTimeout), false, Failed},
		{"wrong_password", failed(tsh.ErrBadLogin), false, Refused},
		{"provider_says_no", failed(tsh.ErrLoginRefused), true, Refused},
		{"asks", errNeedsPerson, true, NeedsPerson},
		{"no_tsh", fmt.Errorf("start: %w", &tsh.NotFoundError{}), false, NeedsPerson},
		{"old_tsh", &login.OldTSHError{}, false, NeedsPerson},
		{"proxy_away", failed(tsh.ErrProxyUnreachable), false, Failed},
		{"full_disk", fmt.Errorf("write: %w", os.ErrPermission), true, Failed},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := outcomeOf(test.err, test.shown); got != test.want {
				t.Errorf("outcome %v, want %v", got, test.want)
			}
		})
	}
}
