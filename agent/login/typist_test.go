package login

import (
	"errors"
	"strings"
	"testing"

	"berth/agent/tsh"
)

func TestWrongStoredKeepsItsReason(t *testing.T) {
	err := &wrongStoredError{what: "password", err: &tsh.LoginError{Reason: tsh.ErrBadLogin}}
	if !errors.Is(err, tsh.ErrBadLogin) || !strings.Contains(err.Error(), "forgotten") {
		t.Errorf("%v is no wrong login that says what was done", err)
	}
}
