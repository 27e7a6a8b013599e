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
		want  outcome
	}{
		{"done", nil, true, notTried},
		{"cancelled", login.ErrLeft, true, loginDismissed},
		{"page_left_open", failed(tsh.ErrLoginTimeout), true, loginDismissed},
		{"nothing_came", failed(tsh.ErrLoginTimeout), false, loginFailed},
		{"wrong_password", failed(tsh.ErrBadLogin), false, loginRefused},
		{"provider_says_no", failed(tsh.ErrLoginRefused), true, loginRefused},
		{"approved_too_late", &tsh.LoginError{Reason: tsh.ErrNotApproved, Err: tsh.ErrLoginTimeout}, true, loginNeedsPerson},
		{"not_approved", failed(tsh.ErrNotApproved), false, loginNeedsPerson}, // each login makes another access request
		{"asks", errNeedsPerson, true, loginNeedsPerson},
		{"no_tsh", fmt.Errorf("start: %w", &tsh.NotFoundError{}), false, loginNeedsPerson},
		{"old_tsh", &login.OldTSHError{}, false, loginNeedsPerson},
		{"proxy_away", failed(tsh.ErrProxyUnreachable), false, loginFailed},
		{"full_disk", fmt.Errorf("write: %w", os.ErrPermission), true, loginFailed},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := outcomeOf(test.err, test.shown); got != test.want {
				t.Errorf("outcome %v, want %v", got, test.want)
			}
		})
	}
}
