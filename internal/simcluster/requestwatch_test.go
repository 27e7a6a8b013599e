package simcluster

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/types"

	"berth/internal/testwait"
)

func watchRequests(t *testing.T, clt *client.Client, user string) types.Watcher {
	t.Helper()
	filter := types.AccessRequestFilter{User: user}
	w, err := clt.NewWatcher(t.Context(), types.Watch{Kinds: []types.WatchKind{{Kind: types.KindAccessRequest, Filter: filter.IntoMap()}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// nextEvent describes the next event of a watch, or how it ended.
func nextEvent(t *testing.T, w types.Watcher) string {
	t.Helper()
	select {
	case ev := <-w.Events():
		switch r := ev.Resource.(type) {
		case *types.AccessRequestV3:
			return "put " + r.GetName() + " " + r.GetState().String()
		case *types.ResourceHeader:
			return "delete " + r.GetName()
		default:
			return ev.Type.String()
		}
	case <-w.Done():
		return "ended: " + w.Error().Error()
	case <-time.After(testwait.Patience):
		t.Fatal("no event")
		return ""
	}
}

func TestWatchRequests(t *testing.T) {
	c := start(t, reviewConfig(V16))
	w := watchRequests(t, clientOf(t, c, "alice"), "alice")
	got := []string{nextEvent(t, w)}
	put := func(id, user string, in time.Duration) {
		c.PutAccessRequest(AccessRequest{ID: id, User: user, Roles: []string{"dba"}, Expires: time.Now().Add(in)})
	}
	put("theirs", "bob", time.Hour)
	put("mine", "alice", time.Hour)
	if err := c.ResolveAccessRequest("mine", types.RequestState_APPROVED, "ok"); err != nil {
		t.Fatal(err)
	}
	c.DeleteAccessRequest("theirs") // deletions are not filtered: the deletion does not say whose it was
	put("brief", "alice", 100*time.Millisecond)
	for range 5 {
		got = append(got, nextEvent(t, w))
	}
	want := []string{"Init", "put mine PENDING", "put mine APPROVED", "delete theirs", "put brief PENDING", "delete brief"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestWatchRefused(t *testing.T) {
	c := start(t, reviewConfig(V16))
	const refused = `ended: access denied to perform action "read" on "access_request"`
	for _, filter := range []string{"", "bob"} {
		if got := nextEvent(t, watchRequests(t, clientOf(t, c, "alice"), filter)); got != refused {
			t.Errorf("alice watching %q: %s", filter, got)
		}
	}
	if got := nextEvent(t, watchRequests(t, clientOf(t, c, "root"), "")); got != "Init" {
		t.Errorf("with a rule to read: %s", got)
	}
}

func TestWatchFaults(t *testing.T) {
	c := start(t, reviewConfig(V16))
	w := watchRequests(t, clientOf(t, c, "alice"), "alice")
	nextEvent(t, w)
	put := func(id string) { c.PutAccessRequest(AccessRequest{ID: id, User: "alice", Roles: []string{"dba"}}) }
	c.Faults().LoseEvents(true)
	put("lost")
	c.Faults().LoseEvents(false)
	c.Faults().DuplicateEvents(true)
	put("twice")
	c.Faults().DuplicateEvents(false)
	c.Faults().HoldEvents()
	put("first")
	put("second")
	c.Faults().ReleaseEvents()
	var got []string
	for range 4 {
		got = append(got, nextEvent(t, w))
	}
	want := []string{"put twice PENDING", "put twice PENDING", "put second PENDING", "put first PENDING"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if n := c.Faults().CutWatches(); n != 1 {
		t.Errorf("%d watches cut, want 1", n)
	}
	if got := nextEvent(t, w); got[:6] != "ended:" {
		t.Errorf("after a cut: %s", got)
	}
}
