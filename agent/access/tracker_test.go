package access

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/cluster"
	"berth/agent/state"
	"berth/certwatch"
)

// watchOnly is a source whose watch is ready, and ends by a func.
type watchOnly func()

func (watchOnly) Requests(context.Context) ([]*types.AccessRequestV3, error) { return nil, nil }

func (end watchOnly) WatchRequests(_ context.Context, handle func(cluster.RequestEvent)) error {
	handle(cluster.RequestEvent{Ready: true})
	end()
	return errors.New("the watch ended")
}

// fixed is a source that always lists the same.
type fixed []*types.AccessRequestV3

func (list fixed) Requests(context.Context) ([]*types.AccessRequestV3, error) { return list, nil }

func (fixed) WatchRequests(context.Context, func(cluster.RequestEvent)) error { return errNoWatch }

// TestTimePassesWhileLoggedOut: what the clock alone brought about is reported after the
// next login.
func TestTimePassesWhileLoggedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		approved := func(id string, from, until time.Duration) *types.AccessRequestV3 {
			return newRequest(func(r *types.AccessRequestV3) {
				r.SetName(id)
				r.Spec.State = types.RequestState_APPROVED
				r.SetAssumeStartTime(time.Now().Add(from))
				r.SetAccessExpiry(time.Now().Add(until))
			})
		}
		list := fixed{approved("later", time.Hour, 8*time.Hour), approved("in-use", -time.Hour, 2*time.Hour)}
		var events []string
		b := NewBoard(slog.New(slog.DiscardHandler), func() int { return 10 }, nil, func(ev state.RequestEvent) {
			events = append(events, string(ev.Kind)+" "+ev.Request.ID)
		})
		b.SetTunnels(map[string][]string{"in-use": {"pg"}})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { b.Run(ctx) })
		defer running.Wait()
		defer cancel()
		follow := func(fingerprint string, ended bool, wait time.Duration) {
			b.Follow([]Session{{
				Who: Who{User: "alice"}, Key: certwatch.ProfileID{Name: "localhost"}, Fingerprint: fingerprint, Source: list, Ended: ended,
			}})
			time.Sleep(wait)
			synctest.Wait()
		}
		follow("one", false, time.Minute)
		follow("one", true, 2*time.Hour-5*time.Minute)
		if len(events) > 0 {
			t.Errorf("while logged out: %v", events)
		}
		follow("two", false, time.Minute)
		if want := []string{"assumable later", "ends_soon in-use"}; !slices.Equal(slices.Sorted(slices.Values(events)), want) {
			t.Errorf("after the login: %v, want %v", events, want)
		}
	})
}

// TestWatchMeetsABug: a bug that every watch meets is met ever more seldom; a watch that
// the cluster ends begins again at once, however often.
func TestWatchMeetsABug(t *testing.T) {
	const span = 10 * time.Minute
	for name, test := range map[string]struct {
		bug         bool
		least, most int
	}{
		"bug": {true, 30, 200}, "ended": {false, 1000, 10_000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				met := 0
				tr := newTracker(watchOnly(func() {
					if met++; test.bug {
						panic("a bug")
					}
				}), slog.New(slog.DiscardHandler), func() {})
				ctx, cancel := context.WithTimeout(t.Context(), span)
				defer cancel()
				tr.Run(ctx)
				if met < test.least || met > test.most {
					t.Errorf("within %v the watch began %d times", span, met)
				}
			})
		})
	}
}
