package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"berth/agent/cluster"
	"berth/agent/state"
	"berth/certwatch"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testwait"
)

func TestMain(m *testing.M) {
	if os.Getenv("BERTH_TEST_HOOK") != "" {
		hookProgram()
		return
	}
	testwait.NoLeaks(m)
}

// world is a simulated cluster, alice's session and a board that follows it.
type world struct {
	*simcluster.Cluster
	t       *testing.T
	session *cluster.Cluster
	profile *certwatch.Profile
	board   *Board

	mu     sync.Mutex
	events []state.RequestEvent
}

func newWorld(t *testing.T, version string, before ...func(*world)) *world {
	t.Helper()
	sim := simworld.Start(t, simcluster.Config{
		Version: version,
		Users:   []simcluster.User{{Name: "alice"}, {Name: "bob"}},
		Roles: []simcluster.Role{
			{Name: "access", Request: simcluster.RequestRules{Roles: []string{"*"}}, Review: []string{"dba"}},
			{Name: "dba"}, {Name: "brief", MaxSessionTTL: time.Hour},
		},
	})
	w := &world{Cluster: sim, t: t}
	w.session, w.profile = session(t, sim, "alice")
	for _, f := range before {
		f(w)
	}
	w.board = NewBoard(slog.New(slog.DiscardHandler), func() int { return 5000 }, nil, func(ev state.RequestEvent) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, ev)
	})
	w.follow("one", w.session)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.board.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

func (w *world) follow(fingerprint string, source source, active ...string) {
	w.board.Follow([]Session{{
		Who: Who{Profile: w.ProxyAddr(), Cluster: w.Name(), User: "alice", Active: active},
		Key: certwatch.ProfileID{Name: "localhost"}, Fingerprint: fingerprint, Source: source,
	}})
}

// watching waits until the watch is up.
func (w *world) watching() {
	w.t.Helper()
	w.eventually("the watch is up", func() bool { return w.Counters().RPCs["WatchEvents"] > 0 && w.listed() })
}

// listed reports whether all sessions have listed that have not ended.
func (w *world) listed() bool {
	w.board.mu.Lock()
	defer w.board.mu.Unlock()
	for _, f := range w.board.followed {
		if !f.session.Ended && (f.tracker == nil || f.quiet) {
			return false
		}
	}
	return true
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	if !testwait.Until(ok) {
		w.t.Fatalf("waited in vain for: %s; events %v", what, w.kinds())
	}
}

// kinds are the events so far.
func (w *world) kinds() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := []string{}
	for _, ev := range w.events {
		out = append(out, string(ev.Kind))
	}
	return out
}

func (w *world) request(id string) state.Request {
	for _, r := range w.board.Requests(time.Now()) {
		if r.ID == id {
			return r
		}
	}
	return state.Request{}
}

// relist has the requests listed, and waits for that list.
func (w *world) relist() {
	w.t.Helper()
	since := w.board.Refresh()
	w.eventually("a list", func() bool { listed, _ := since(); return listed })
}

func (w *world) becomes(id string, s state.RequestState) {
	w.t.Helper()
	w.eventually(id+" becomes "+string(s), func() bool { return w.request(id).State == s })
}

func (w *world) put(id, user string, state types.RequestState) string {
	return w.PutAccessRequest(simcluster.AccessRequest{ID: id, User: user, Roles: []string{"dba"}, State: state})
}

func (w *world) approve(id string) {
	w.t.Helper()
	if err := w.ResolveAccessRequest(id, types.RequestState_APPROVED, "ok"); err != nil {
		w.t.Fatal(err)
	}
}

const pending = types.RequestState_PENDING

func TestDecisionsArriveAtOnce(t *testing.T) {
	t.Parallel()
	for _, version := range []string{simcluster.V16, simcluster.V17} {
		t.Run(version, func(t *testing.T) {
			w := newWorld(t, version)
			w.watching()
			id := w.put("", "alice", pending)
			w.becomes(id, state.RequestPending)
			began := time.Now()
			w.approve(id)
			w.becomes(id, state.RequestApproved)
			testwait.Soon(t, "what was decided", time.Since(began), 2*time.Second)
			if r := w.request(id); !r.Assumable || r.ResolveReason != "ok" {
				t.Errorf("%+v", r)
			}
			w.eventually("the decision is reported", func() bool { return len(w.kinds()) == 2 })
			w.DeleteAccessRequest(id)
			w.eventually("it is gone", func() bool { return w.request(id).ID == "" })
			w.eventually("all is reported", func() bool { return len(w.kinds()) == 3 })
			if got := w.kinds(); !slices.Equal(got, []string{"created", "approved", "deleted"}) {
				t.Errorf("events %v", got)
			}
		})
	}
}

func TestNothingIsMissedInAGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, simcluster.V16)
	w.watching()
	id := w.put("", "alice", pending)
	gone := w.put("", "alice", pending)
	w.becomes(gone, state.RequestPending)
	w.Faults().LoseEvents(true)
	w.approve(id)
	w.DeleteAccessRequest(gone)
	extra := w.put("", "alice", pending)
	w.Faults().LoseEvents(false)
	w.Faults().CutWatches()
	w.becomes(id, state.RequestApproved)
	w.becomes(extra, state.RequestPending)
	w.eventually("the deleted one is gone", func() bool { return w.request(gone).ID == "" })
}

func TestTwiceAndOutOfOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, simcluster.V16)
	w.watching()
	w.Faults().DuplicateEvents(true)
	id := w.put("", "alice", pending)
	w.becomes(id, state.RequestPending)
	w.relist() // what the watch had listed when it came up is over, and tells of no approval
	w.Faults().DuplicateEvents(false)
	w.Faults().HoldEvents()
	w.approve(id)
	gone := w.put("", "alice", pending)
	w.DeleteAccessRequest(gone) // its deletion comes before its creation
	if err := w.ResolveAccessRequest(id, types.RequestState_DENIED, "no"); err != nil {
		t.Fatal(err)
	}
	w.Faults().ReleaseEvents() // the denial comes before the approval
	w.becomes(id, state.RequestDenied)
	w.eventually("what does not exist is not shown", func() bool { return w.request(gone).ID == "" })
	for range 2 {
		w.relist()
	}
	if w.request(id).State != state.RequestDenied || w.request(gone).ID != "" {
		t.Errorf("in the end %s and %q", w.request(id).State, w.request(gone).ID)
	}
	if got := w.kinds(); slices.Contains(got, "approved") {
		t.Errorf("events %v: an approval that was none any more", got)
	}
}

func TestReviewsAreAskedByPolling(t *testing.T) {
	w := newWorld(t, simcluster.V16)
	w.watching()
	id := w.put("", "bob", pending) // not watched: it is another's
	w.board.Refresh()
	w.eventually("it is asked", func() bool { return slices.Contains(w.kinds(), "review_asked") })
	if r := w.request(id); !r.Reviewable || r.Mine {
		t.Errorf("%+v", r)
	}
	if err := w.session.Decide(t.Context(), id, cluster.Decision{Approve: true}); err != nil {
		t.Fatal(err)
	}
	w.board.Refresh()
	w.eventually("it is done", func() bool { return !w.request(id).Reviewable })
}

func TestWatchRefusedIsPolled(t *testing.T) {
	w := newWorld(t, simcluster.V16, func(w *world) {
		w.Faults().RPCError("WatchEvents", trace.AccessDenied("no watching here"))
		w.put("first", "alice", pending)
	})
	w.becomes("first", state.RequestPending)
	w.eventually("the watch is refused", func() bool { return w.Counters().RPCs["WatchEvents"] == 1 })
	w.approve("first")
	w.board.Refresh()
	w.becomes("first", state.RequestApproved)
}

func TestWhatIsThereAtFirstIsNoNews(t *testing.T) {
	w := newWorld(t, simcluster.V16, func(w *world) {
		w.put("old", "alice", types.RequestState_APPROVED)
		w.put("theirs", "bob", pending)
	})
	w.becomes("old", state.RequestApproved)
	w.watching()
	w.approve("theirs")
	w.put("new", "alice", pending)
	w.becomes("new", state.RequestPending)
	w.eventually("it is reported", func() bool { return len(w.kinds()) > 0 })
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ev := range w.events {
		// The decision about theirs is news, whenever it is seen.
		if ev.Request.ID != "new" && (ev.Request.ID != "theirs" || ev.Kind != state.RequestEventApproved) {
			t.Errorf("an event %s of %q, which was there before", ev.Kind, ev.Request.ID)
		}
	}
}

func TestRenewalKeepsWhatIsKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, simcluster.V16)
	w.watching()
	id := w.put("", "alice", types.RequestState_APPROVED)
	w.becomes(id, state.RequestApproved)
	w.eventually("reported", func() bool { return len(w.kinds()) == 2 })
	slow := slowSource{w.session, make(chan struct{})}
	w.follow("two", slow, id)
	if r := w.request(id); !r.Assumed {
		t.Errorf("right after the renewal: %+v", r)
	}
	w.eventually("assumed", func() bool { return slices.Contains(w.kinds(), "assumed") })
	close(slow.allowed)
	w.watching()
	w.board.Follow(nil)
	if list := w.board.Requests(time.Now()); len(list) != 0 {
		t.Errorf("logged out, and still %d requests", len(list))
	}
	testwait.Never(t, "news of a logout", func() bool {
		return !slices.Equal(w.kinds(), []string{"created", "approved", "assumed"})
	})
}

// slowSource lists only when it is allowed to.
type slowSource struct {
	*cluster.Cluster
	allowed chan struct{}
}

func (s slowSource) Requests(ctx context.Context) ([]*types.AccessRequestV3, error) {
	select {
	case <-s.allowed:
		return s.Cluster.Requests(ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestThousandRequests(t *testing.T) {
	w := newWorld(t, simcluster.V17, func(w *world) {
		for i := range 1000 {
			w.put(fmt.Sprintf("r-%04d", i), "alice", pending)
		}
	})
	w.eventually("all are listed", func() bool { return len(w.board.Requests(time.Now())) == 1000 })
	w.watching()
	began := time.Now()
	w.approve("r-0500")
	w.becomes("r-0500", state.RequestApproved)
	testwait.Soon(t, "what was decided", time.Since(began), 2*time.Second)
}

func TestAssumeAndDrop(t *testing.T) {
	w := newWorld(t, simcluster.V16)
	var installed []*cluster.SessionCerts
	c := Changer{
		Cluster: w.session, SessionEnd: w.profile.Session.ValidUntil,
		Install: func(_ context.Context, certs *cluster.SessionCerts) error {
			installed = append(installed, certs)
			return nil
		},
	}
	for why, state := range map[string]types.RequestState{
		"pending": pending, "denied": types.RequestState_DENIED, "promoted": types.RequestState_PROMOTED,
	} {
		_, err := c.Assume(t.Context(), w.put("", "alice", state), false)
		if e, ok := errors.AsType[*cluster.NotAssumableError](err); !ok || e.Why != why {
			t.Errorf("assume a %s one: %v", why, err)
		}
	}
	for _, id := range []string{w.put("", "bob", types.RequestState_APPROVED), "nope"} {
		if _, err := c.Assume(t.Context(), id, false); err == nil {
			t.Errorf("assumed %s", id)
		}
	}
	short := w.PutAccessRequest(simcluster.AccessRequest{User: "alice", Roles: []string{"brief"}, State: types.RequestState_APPROVED, Expires: time.Now().Add(5 * time.Hour)})
	_, err := c.Assume(t.Context(), short, false)
	if e, ok := errors.AsType[*CostError](err); !ok || e.New.After(time.Now().Add(61*time.Minute)) || len(installed) != 0 {
		t.Errorf("the session's end comes nearer: %v, %d installed", err, len(installed))
	}
	end, err := c.Assume(t.Context(), short, true)
	if err != nil || len(installed) != 1 || !slices.Equal(installed[0].Requests, []string{short}) || time.Until(end) > time.Hour {
		t.Errorf("accepted: until %v, %v", end, err)
	}
	if err := c.Drop(t.Context()); err != nil || len(installed) != 2 || len(installed[1].Requests) != 0 {
		t.Errorf("drop: %v", err)
	}
}

func TestAssumeByTSH(t *testing.T) {
	w := newWorld(t, simcluster.V16)
	var ran []string
	c := Changer{Cluster: w.session, TSH: func(_ context.Context, args ...string) ([]byte, error) {
		ran = append(ran, strings.Join(args, " "))
		return nil, nil
	}}
	if _, err := c.Assume(t.Context(), w.put("wait", "alice", pending), false); err == nil || len(ran) != 0 {
		t.Errorf("a pending one would block tsh: %v, ran %q", err, ran)
	}
	if _, err := c.Assume(t.Context(), w.put("ok", "alice", types.RequestState_APPROVED), true); err != nil {
		t.Error(err)
	}
	if err := c.Drop(t.Context(), "ok"); err != nil {
		t.Error(err)
	}
	if want := []string{"login --request-id=ok", "request drop ok"}; !slices.Equal(ran, want) {
		t.Errorf("ran %q, want %q", ran, want)
	}
	if err := (Changer{}).Drop(t.Context()); !errors.Is(err, errNoWay) {
		t.Errorf("with neither: %v", err)
	}
}

func TestTSHSource(t *testing.T) {
	out := `[{"kind":"access_request","version":"v3","metadata":{"name":"c19f","expires":"2026-11-23T05:00:32Z"},
	 "spec":{"user":"alice","roles":["dba"],"state":2,"created":"2026-11-22T05:00:32Z","expires":"2026-11-23T05:00:32Z",
	  "request_reason":"why","resolve_reason":"ok","thresholds":[{"name":"default","approve":1,"deny":1}],
	  "suggested_reviewers":["bob"],"max_duration":"2026-11-23T05:00:32Z","session_ttl":"2026-11-23T05:00:32Z"}},{},null]`
	s := TSH{Run: func(_ context.Context, args ...string) ([]byte, error) {
		if !slices.Equal(args, []string{"request", "ls", "--format=json"}) {
			t.Errorf("ran %q", args)
		}
		return []byte(out), nil
	}}
	list, err := s.Requests(t.Context())
	if err != nil || len(list) != 1 || !list[0].GetState().IsApproved() || list[0].GetResolveReason() != "ok" {
		t.Errorf("%v, %v", list, err)
	}
	if !errors.Is(s.WatchRequests(t.Context(), nil), errNoWatch) {
		t.Error("tsh watches")
	}
	if list, err := parseList([]byte("null")); err != nil || len(list) != 0 {
		t.Errorf("none: %v, %v", list, err)
	}
	if _, err := parseList([]byte("ERROR")); err == nil {
		t.Error("no JSON was parsed")
	}
}
