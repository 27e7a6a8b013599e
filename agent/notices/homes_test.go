package notices

import (
	"testing"
	"time"

	"berth/agent/state"
)

// TestSessionsOfTwoHomes: the sessions of two users at one proxy have a notice each, whose
// buttons name the user.
func TestSessionsOfTwoHomes(t *testing.T) {
	now := time.Now()
	until := now.Add(10 * time.Minute)
	profile := func(user string) state.Profile {
		return state.Profile{
			Home: "/" + user, Proxy: "p.example.com:443", User: user, State: state.ProfileExpiring, ValidUntil: &until,
			Renewal: state.Renewal{Mode: state.RenewAsk, Warning: state.WarnSoon},
		}
	}
	s := state.Snapshot{Profiles: []state.Profile{profile("alice"), profile("bob")}}
	tr := New()
	alone := tr.Update(&state.Snapshot{Profiles: s.Profiles[:1]}, Input{Now: now, Enabled: true})
	shown := tr.Update(&s, Input{Now: now, Enabled: true})
	if len(alone) != 1 || len(shown) != 2 || alone[0].ID != shown[0].ID || shown[0].ID == shown[1].ID {
		t.Fatalf("alone is shown %+v, with another home %+v", alone, shown)
	}
	for i, user := range []string{"alice", "bob"} {
		for _, a := range shown[i].Actions {
			if a.User != user {
				t.Errorf("the action %s of notice %s is about %q", a.Verb, shown[i].ID, a.User)
			}
		}
	}
}

// TestHomesThatCannotBeRead: each has a notice of its own, which can be dismissed alone.
func TestHomesThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	w.want(0)
	for _, home := range []string{"/one", "/two"} {
		w.s.Problems = append(w.s.Problems, state.Problem{
			Code: state.CodeHomeUnreadable, Title: "Teleport home unreadable", Text: "The Teleport home " + home + " cannot be read.",
		})
	}
	w.want(0)
	shown := w.want(gracePort, state.NoticeTunnelBroken, state.NoticeTunnelBroken)
	if !w.tr.Dismiss(shown[0].ID) {
		t.Errorf("there is no notice %s", shown[0].ID)
	}
	if left := w.want(time.Second, state.NoticeTunnelBroken)[0]; left.Body != shown[1].Body {
		t.Errorf("left is %+v, want %+v", left, shown[1])
	}
}
