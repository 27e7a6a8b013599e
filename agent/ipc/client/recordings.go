package client

import (
	"context"
	"iter"
	"time"

	"berth/agent/ipc"
	pb "berth/agent/ipc/berthv1"
)

// The values of recordings.
type (
	// RecordingQuery says which recordings are wanted.
	RecordingQuery = ipc.RecordingQuery
	// RecordingList is a list of recordings.
	RecordingList = ipc.RecordingList
	// RecordingRead says which recording to read.
	RecordingRead = ipc.RecordingRead
	// RecordingPart is what arrives of a recording at a time.
	RecordingPart = ipc.RecordingPart
)

// recordingsTimeout bounds a list of recordings: an auth service may look
// through months of events.
const recordingsTimeout = time.Minute

// Recordings lists recordings, the sessions under way first.
func (c *Client) Recordings(ctx context.Context, q RecordingQuery) (RecordingList, error) {
	l, err := c.connection()
	if err != nil {
		return RecordingList{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, recordingsTimeout)
	defer cancel()
	resp, err := pb.NewRecordingsClient(l.conn).List(ctx, ipc.ToProto[pb.ListRecordingsRequest](q))
	if err != nil {
		return RecordingList{}, c.failed(ctx, l, err)
	}
	return ipc.FromProto[RecordingList](resp), nil
}

// ReadRecording yields a recording part by part, as it arrives, until its end,
// until the loop breaks, ctx ends or the agent goes away; the last two yield an
// error, once, as the last thing.
func (c *Client) ReadRecording(ctx context.Context, r RecordingRead) iter.Seq2[RecordingPart, error] {
	return streamed[RecordingPart](ctx, c, func(ctx context.Context, l *link) (receiver[*pb.ReadRecordingResponse], error) {
		return pb.NewRecordingsClient(l.conn).Read(ctx, ipc.ToProto[pb.ReadRecordingRequest](r))
	})
}
