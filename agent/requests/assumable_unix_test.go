//go:build unix

package requests

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/sessions"
	"berth/certwatch"
)

// TestAssumableByTSH: where only tsh can use the session's key, what it lists says whether
// a request is over. Without a list that is not known.
func TestAssumableByTSH(t *testing.T) {
	dir := t.TempDir()
	script, list := filepath.Join(dir, "tsh"), filepath.Join(dir, "list")
	if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nexec cat %s\n", list), 0o700); err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.TSH.Path = script
	h := newHeldTest(t)
	h.cfg.Config = func() *config.Config { return cfg }
	f := sessions.Session{Profile: &certwatch.Profile{ProxyAddr: "tele.test:443", User: "alice", Session: new(certwatch.Session)}}

	const fine, over, gone, unknown = "it can be had", "it is over", "it is gone", "it is not known"
	is := func(what, want string) {
		t.Helper()
		err := h.Assumable(t.Context(), f, "id")
		_, isOver := errors.AsType[*cluster.NotAssumableError](err)
		_, isGone := errors.AsType[*cluster.UnknownRequestError](err)
		got := unknown
		switch {
		case err == nil:
			got = fine
		case isOver:
			got = over
		case isGone:
			got = gone
		}
		if got != want {
			t.Errorf("%s: %s, want: %s; error %v", what, got, want, err)
		}
	}
	is("no list", unknown)
	for what, c := range map[string]struct {
		id      string
		user    string
		state   types.RequestState
		expires time.Duration
		want    string
	}{
		"approved": {"id", "alice", types.RequestState_APPROVED, time.Hour, fine},
		"denied":   {"id", "alice", types.RequestState_DENIED, time.Hour, over},
		"expired":  {"id", "alice", types.RequestState_APPROVED, -time.Hour, over},
		"deleted":  {"another", "alice", types.RequestState_APPROVED, time.Hour, gone},
		"bob's":    {"id", "bob", types.RequestState_APPROVED, time.Hour, unknown},
	} {
		r := &types.AccessRequestV3{Metadata: types.Metadata{Name: c.id}, Spec: types.AccessRequestSpecV3{User: c.user, State: c.state}}
		r.SetExpiry(time.Now().Add(c.expires))
		text, err := json.Marshal([]*types.AccessRequestV3{r})
		if err == nil {
			err = os.WriteFile(list, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		is(what, c.want)
	}
}
