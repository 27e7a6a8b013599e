package access

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/cluster"
)

// watchOnly is a source whose watch is ready, and ends by a func.
type watchOnly func()

func (watchOnly) Requests(context.Context) ([]*types.AccessRequestV3, error) { return nil, nil }

func (end watchOnly) WatchRequests(_ context.Context, handle func(cluster.RequestEvent)) error {
	handle(cluster.RequestEvent{Ready: true})
	end()
	return errors.New("the watch ended")
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
