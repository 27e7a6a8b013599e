package replay

import (
	"context"
	"iter"

	"berth/agent/state"
)

// Source yields a recording's events from one on, as often as it is asked. An
// error is the last thing it yields.
type Source func(ctx context.Context, from int64) iter.Seq2[state.RecordingEvent, error]
