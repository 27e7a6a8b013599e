package access

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/certwatch"
)

// TestLimitOfRequests: at the limit all requests are listed, above it the newest.
func TestLimitOfRequests(t *testing.T) {
	const most = 10
	board := NewBoard(slog.New(slog.DiscardHandler), func() int { return most }, nil, nil)
	f := &followed{session: Session{Who: Who{User: "alice"}}}
	board.followed[certwatch.ProfileID{Name: "one"}] = f
	began := time.Now()
	for i := range most + 1 {
		f.before = append(f.before, newRequest(func(r *types.AccessRequestV3) {
			r.SetName(fmt.Sprint(i))
			r.SetCreationTime(began.Add(time.Duration(i) * time.Second))
		}))
		list, over := board.Requests(began), board.Over()
		if len(list) != min(i+1, most) || list[0].ID != fmt.Sprint(i) || over != max(0, i+1-most) {
			t.Errorf("of %d requests %d are listed, the first is %s, %d are over", i+1, len(list), list[0].ID, over)
		}
	}
}

// TestLimitHidesNothingInUse: a request that newer ones push beyond the limit, or a lower
// limit, is not gone, and one's own stay listed.
func TestLimitHidesNothingInUse(t *testing.T) {
	most := 20
	board := NewBoard(slog.New(slog.DiscardHandler), func() int { return most }, nil, nil)
	f := &followed{session: Session{Who: Who{User: "alice"}}}
	board.followed[certwatch.ProfileID{Name: "one"}] = f
	began := time.Now()
	put := func(i int, user string, state types.RequestState) {
		f.before = append(f.before, newRequest(func(r *types.AccessRequestV3) {
			r.SetName(fmt.Sprint(i))
			r.Spec.User, r.Spec.State = user, state
			r.SetCreationTime(began.Add(time.Duration(i) * time.Second))
			r.SetExpiry(began.Add(time.Hour))
			r.SetAccessExpiry(began.Add(time.Hour))
		}))
	}
	check := func(when string) {
		t.Helper()
		for _, ev := range board.news(began) {
			if ev.Request.ID == "0" {
				t.Errorf("%s: event %s of a request that nothing happened to", when, ev.Kind)
			}
		}
		list := board.Requests(began)
		if last := list[len(list)-1]; len(list) != min(len(f.before), most) || last.ID != "0" {
			t.Errorf("%s: %d requests are listed, the oldest is %s", when, len(list), last.ID)
		}
	}
	put(0, "alice", types.RequestState_APPROVED)
	board.SetTunnels(map[string][]string{"0": {"pg"}})
	board.news(began)
	for i := range 15 {
		put(i+1, "bob", pending)
	}
	check("below the limit")
	most = 10
	check("the limit is lower")
	for i := range most {
		put(i+16, "alice", types.RequestState_DENIED)
	}
	check("ten newer ones")
	f.before = f.before[:16]
	check("they are gone")
}
