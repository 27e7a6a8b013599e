package access

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"berth/certwatch"

	"github.com/gravitational/teleport/api/types"
)

// BenchmarkBoard draws a thousand requests, as every snapshot does.
func BenchmarkBoard(b *testing.B) {
	board := NewBoard(slog.New(slog.DiscardHandler), func() int { return 5000 }, nil, nil)
	f := &followed{session: Session{Who: Who{User: "alice"}}}
	for i := range 1000 {
		f.before = append(f.before, newRequest(func(r *types.AccessRequestV3) {
			r.SetName(fmt.Sprintf("%08d", i))
			r.Spec.RequestReason = "incident 42 in the cluster of the north"
		}))
	}
	board.followed[certwatch.ProfileID{Name: "one"}] = f
	for b.Loop() {
		if n := len(board.Requests(time.Now())); n != 1000 {
			b.Fatal(n)
		}
	}
}
