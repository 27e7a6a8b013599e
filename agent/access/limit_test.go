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
