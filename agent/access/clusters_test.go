package access

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/cluster"
	"berth/agent/state"
	"berth/certwatch"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testwait"
)

// Requests of several clusters stand side by side, and what happens to the one
// is nothing to the other.
func TestTwoClusters(t *testing.T) {
	w := newWorld(t, simcluster.V16)
	other := newWorld(t, simcluster.V17)
	w.watching()
	other.watching()
	here, there := w.put("same", "alice", pending), other.put("same", "alice", pending)
	session := func(of *world, key string) Session {
		return Session{
			Who: Who{Profile: of.ProxyAddr(), Cluster: of.Name(), User: "alice"}, Key: certwatch.ProfileID{Name: key}, Fingerprint: key, Source: of.session,
		}
	}
	w.board.Follow([]Session{session(w, "a"), session(other, "b")})
	in := func(of *world) state.Request {
		for _, r := range w.board.Requests(time.Now()) {
			if r.Profile == of.ProxyAddr() {
				return r
			}
		}
		return state.Request{}
	}
	w.eventually("both are listed", func() bool { return in(w).ID == here && in(other).ID == there && w.listed() })
	w.eventually("both are watched", func() bool { return w.Counters().RPCs["WatchEvents"] > 1 && other.Counters().RPCs["WatchEvents"] > 1 })
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	w.approve(here)
	w.eventually("the decision is known", func() bool { return in(w).State == state.RequestApproved })
	if r := in(other); r.State != state.RequestPending {
		t.Errorf("the other cluster's request: %+v", r)
	}
	w.eventually("it is reported", func() bool { return slices.Contains(w.kinds(), "approved") })
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ev := range w.events {
		if ev.Kind == state.RequestEventApproved && ev.Request.Profile != w.ProxyAddr() {
			t.Errorf("an event of the other cluster's: %+v", ev.Request)
		}
	}
}

// session logs a user in and returns what the session is connected by.
func session(t *testing.T, sim *simcluster.Cluster, user string) (*cluster.Cluster, *certwatch.Profile) {
	t.Helper()
	home := filepath.Join(t.TempDir(), "tsh")
	if err := sim.Login(home, user); err != nil {
		t.Fatal(err)
	}
	profile := simworld.Profile(t, home)
	c, err := cluster.New(cluster.Config{Profile: profile, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, profile
}

// Whatever the thresholds, their filters and the rules that lead to them: what
// is counted is done exactly when the (simulated) auth service approves.
func TestProgressAgreesWithTheServer(t *testing.T) {
	t.Parallel()
	cfg := simcluster.Config{Users: []simcluster.User{{Name: "alice"}}, Roles: []simcluster.Role{{Name: "dba"}, {Name: "admin"}, {Name: "access"}}}
	teams := []string{"security", "ops"}
	for _, team := range teams {
		cfg.Roles = append(cfg.Roles, simcluster.Role{Name: team, Review: []string{"*"}})
	}
	var names []string
	for i := range 6 {
		names = append(names, fmt.Sprintf("reviewer-%d", i))
		cfg.Users = append(cfg.Users, simcluster.User{Name: names[i], Roles: []string{teams[i%2]}})
	}
	sim := simworld.Start(t, cfg)
	var reviewers []*cluster.Cluster
	for _, name := range names {
		reviewer, _ := session(t, sim, name)
		reviewers = append(reviewers, reviewer)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	outcomes := make(map[types.RequestState]int)
	for i := range 60 {
		req := randomRequest(t, rng, fmt.Sprintf("r-%02d", i), teams)
		sim.PutAccessRequestV3(req)
		said := ""
		for _, who := range rng.Perm(len(reviewers)) {
			approve := rng.IntN(4) > 0
			said += fmt.Sprintf("%s:%v ", names[who], approve)
			if err := reviewers[who].Decide(t.Context(), req.GetName(), cluster.Decision{Approve: approve}); err != nil {
				t.Fatal(err)
			}
			now, _ := sim.AccessRequest(req.GetName())
			p := progressOf(now)
			if p.Done != now.GetState().IsApproved() && !now.GetState().IsDenied() {
				t.Fatalf("%s: counted %q, done %v, and the server says %s\nreviews %s\nthresholds %+v\nrules %+v",
					req.GetName(), p, p.Done, now.GetState(), said, now.GetThresholds(), now.GetRoleThresholdMapping())
			}
			if !now.GetState().IsPending() {
				outcomes[now.GetState()]++
				break
			}
		}
	}
	if outcomes[types.RequestState_APPROVED] < 10 || outcomes[types.RequestState_DENIED] < 10 {
		t.Errorf("outcomes %v prove little", outcomes)
	}
}

// randomRequest has up to four thresholds, and up to two rules for each role.
func randomRequest(t *testing.T, rng *rand.Rand, id string, teams []string) *types.AccessRequestV3 {
	t.Helper()
	req := newRequest(func(r *types.AccessRequestV3) {
		r.SetName(id)
		r.Spec.Roles = []string{"dba", "admin"}[:1+rng.IntN(2)]
		r.Spec.Thresholds, r.Spec.RoleThresholdMapping = nil, make(map[string]types.ThresholdIndexSets)
		for i := range 1 + rng.IntN(4) {
			th := types.AccessReviewThreshold{Name: fmt.Sprintf("t%d", i), Approve: uint32(1 + rng.IntN(3)), Deny: uint32(1 + rng.IntN(2))}
			if rng.IntN(2) == 0 {
				th.Filter = fmt.Sprintf("contains(reviewer.roles, %q)", teams[rng.IntN(len(teams))])
			}
			r.Spec.Thresholds = append(r.Spec.Thresholds, th)
		}
		for _, role := range r.Spec.Roles {
			var of types.ThresholdIndexSets
			for range 1 + rng.IntN(2) {
				var set types.ThresholdIndexSet
				for i := range r.Spec.Thresholds {
					if rng.IntN(2) == 0 || len(set.Indexes) == 0 {
						set.Indexes = append(set.Indexes, uint32(i))
					}
				}
				of.Sets = append(of.Sets, set)
			}
			r.Spec.RoleThresholdMapping[role] = of
		}
	})
	now := time.Now()
	req.Spec.Created, req.Spec.Expires = now, now.Add(time.Hour)
	req.SetExpiry(now.Add(time.Hour))
	return req
}

// While a session is over, what can be assumed after the next login stays
// listed; what has happened meanwhile is told then.
func TestWhatHappensWhileLoggedOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, simcluster.V16)
	w.watching()
	asked, usable, theirs := w.put("asked", "alice", pending), w.put("usable", "alice", types.RequestState_APPROVED), w.put("theirs", "bob", pending)
	w.board.Refresh()
	w.eventually("all is reported", func() bool { return len(w.kinds()) == 4 }) // asked and usable made, usable approved, theirs to be reviewed
	end := Session{
		Who: Who{Profile: w.ProxyAddr(), Cluster: w.Name(), User: "alice"}, Key: certwatch.ProfileID{Name: "localhost"}, Fingerprint: "one", Ended: true,
	}
	w.board.Follow([]Session{end})
	w.board.Follow([]Session{end}) // again, as time passes
	list := w.board.Requests(time.Now())
	if len(list) != 1 || list[0].ID != usable || !list[0].Assumable {
		t.Errorf("after the end: %+v, want what can be assumed", list)
	}
	w.approve(asked)
	if err := w.ResolveAccessRequest(usable, types.RequestState_DENIED, "no"); err != nil {
		t.Fatal(err)
	}
	w.DeleteAccessRequest(theirs)
	testwait.Never(t, "a report while logged out", func() bool { return len(w.kinds()) != 4 })
	w.follow("two", w.session)
	w.eventually("it is reported", func() bool { return len(w.kinds()) >= 6 })
	testwait.Never(t, "a third report", func() bool { return len(w.kinds()) > 6 })
	if got := w.kinds()[4:]; !slices.Equal(slices.Sorted(slices.Values(got)), []string{"approved", "denied"}) {
		t.Errorf("reported after the login: %v", got)
	}
}

// TestListed: what a user's requests become is news once a session of theirs has listed,
// whatever another user's at the same proxy does; to renew one changes nothing.
func TestListed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, simcluster.V16)
	w.watching()
	slow := slowSource{w.session, make(chan struct{})}
	session := func(user, home, fingerprint string) Session {
		return Session{
			Who: Who{Profile: w.ProxyAddr(), Cluster: w.Name(), User: user}, Key: certwatch.ProfileID{Home: home, Name: "localhost"},
			Fingerprint: fingerprint, Source: slow,
		}
	}
	of := func(user string) bool { return w.board.Listed()(state.Request{Profile: w.ProxyAddr(), User: user}) }
	ended := session("alice", "", "two")
	ended.Ended, ended.Source = true, nil
	endedFirst := session("bob", "/second", "one")
	endedFirst.Ended, endedFirst.Source = true, nil
	for _, step := range []struct {
		what     string
		sessions []Session
		alice    bool
	}{
		{"renewed", []Session{session("alice", "", "two")}, true},
		{"ended", []Session{ended}, true},
		{"logged in again", []Session{session("alice", "", "three")}, true},
		{"a second home", []Session{session("alice", "", "three"), session("bob", "/second", "one")}, true},
		{"one that ended first", []Session{session("alice", "", "three"), endedFirst}, true},
		{"without it", []Session{session("alice", "", "three")}, true},
		{"another user", []Session{session("bob", "", "four")}, false},
		{"logged out", nil, false},
		{"alice again", []Session{session("alice", "", "five")}, false},
	} {
		w.board.Follow(step.sessions)
		if alice, bob := of("alice"), of("bob"); alice != step.alice || bob {
			t.Errorf("%s: of alice %v, want %v; of bob %v, want false", step.what, alice, step.alice, bob)
		}
	}
	close(slow.allowed)
	w.eventually("the list", func() bool { return of("alice") })
}

// Two homes may have sessions at one proxy, and the same request in both: each session's
// news is its own, and the request is shown once.
func TestTwoHomesAtOneProxy(t *testing.T) {
	t.Parallel()
	for _, user := range []string{"alice", "bob"} { // of the second home
		t.Run(user, func(t *testing.T) {
			w := newWorld(t, simcluster.V16)
			w.watching()
			id := w.put("", "alice", pending)
			w.eventually("it is reported", func() bool { return len(w.kinds()) == 1 })
			one := Session{
				Who: Who{Profile: w.ProxyAddr(), Cluster: w.Name(), User: "alice"}, Key: certwatch.ProfileID{Name: "localhost"}, Fingerprint: "one", Source: w.session,
			}
			two := one
			two.User, two.Key.Home = user, "/second"
			two.Source, _ = session(t, w.Cluster, user)
			after := func(what string, sessions []Session, want ...string) {
				t.Helper()
				w.board.Follow(sessions)
				w.eventually("all have listed", w.listed)
				for range 3 {
					w.board.update(time.Now(), false)
				}
				if got := w.kinds(); !slices.Equal(got, want) {
					t.Fatalf("%s: events %v, want %v", what, got, want)
				}
			}
			after("both have listed", []Session{one, two}, "created")
			list := w.board.Requests(time.Now())
			if len(list) != 1 || !list[0].Mine {
				t.Errorf("shown are %+v, want the one request as its user's", list)
			}
			if r, err := Find(list, id[:8]); err != nil || r.ID != id {
				t.Errorf("Find(%q) = %q, %v", id[:8], r.ID, err)
			}
			ended := two
			ended.Ended, ended.Source = true, nil
			after("one has ended", []Session{one, ended}, "created")
			w.approve(id)
			w.eventually("the decision is known", func() bool { return w.request(id).State == state.RequestApproved })
			w.eventually("it is reported", func() bool { return len(w.kinds()) > 1 })
			after("it was approved", []Session{one, ended}, "created", "approved")
			after("the other home is logged out", []Session{one}, "created", "approved")
		})
	}
}

// onlyLists is a source that always lists the same.
type onlyLists []*types.AccessRequestV3

func (l onlyLists) Requests(context.Context) ([]*types.AccessRequestV3, error) { return l, nil }

func (onlyLists) WatchRequests(context.Context, func(cluster.RequestEvent)) error { return errNoWatch }

// TestWhatTimeBringsWhileLoggedOut: a request whose time comes, or is nearly up, while its
// session is over is reported after the next login, which is when a rule can be followed.
func TestWhatTimeBringsWhileLoggedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		put := func(id string, change func(*types.AccessRequestV3)) *types.AccessRequestV3 {
			return newRequest(func(r *types.AccessRequestV3) {
				r.SetName(id)
				r.Spec.State, r.Spec.Created = types.RequestState_APPROVED, began
				r.SetExpiry(began.Add(8 * time.Hour))
				r.SetAccessExpiry(began.Add(8 * time.Hour))
				change(r)
			})
		}
		source := onlyLists{
			put("begins", func(r *types.AccessRequestV3) { r.SetAssumeStartTime(began.Add(time.Hour)) }),
			put("ends", func(r *types.AccessRequestV3) { r.SetAccessExpiry(began.Add(2*time.Hour + 5*time.Minute)) }),
		}
		var events []string
		board := NewBoard(slog.New(slog.DiscardHandler), func() int { return 5000 }, nil, func(ev state.RequestEvent) {
			events = append(events, string(ev.Kind)+" "+ev.Request.ID)
		})
		board.SetTunnels(map[string][]string{"ends": {"pg"}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); board.Run(ctx) }()
		follow := func(s Session) {
			s.Who, s.Key = Who{Profile: "p:443", User: "alice"}, certwatch.ProfileID{Name: "p"}
			board.Follow([]Session{s})
		}
		follow(Session{Fingerprint: "one", Source: source})
		time.Sleep(time.Minute)
		follow(Session{Fingerprint: "one", Ended: true})
		time.Sleep(2 * time.Hour)
		if len(events) > 0 {
			t.Errorf("reported while logged out: %q", events)
		}
		for _, session := range []string{"two", "three"} { // the second has no news
			follow(Session{Fingerprint: session, Source: source})
			time.Sleep(30 * time.Second)
		}
		cancel()
		<-done
		slices.Sort(events)
		if want := []string{"assumable begins", "ends_soon ends"}; !slices.Equal(events, want) {
			t.Errorf("reported after the login: %q, want %q", events, want)
		}
	})
}
