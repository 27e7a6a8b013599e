package client

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"

	"berth/agent/ipc"
	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
)

const (
	followPauseFirst = 100 * time.Millisecond
	followPauseMax   = 3 * time.Second
)

// Watch yields the agent's snapshot now and each newer one, until the loop
// breaks, ctx ends or the agent goes away; the last two yield an error, once,
// as the last thing. A loop body that is slow misses the snapshots in between
// and gets the newest next.
func (c *Client) Watch(ctx context.Context) iter.Seq2[state.Snapshot, error] {
	return func(yield func(state.Snapshot, error) bool) {
		l, err := c.connection()
		if err != nil {
			yield(state.Snapshot{}, err)
			return
		}
		streamCtx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := pb.NewAgentClient(l.conn).WatchSnapshots(streamCtx, &pb.WatchSnapshotsRequest{})
		if err != nil {
			yield(state.Snapshot{}, c.failed(ctx, l, err))
			return
		}
		newest := make(chan *pb.Snapshot, 1)
		ended := make(chan error, 1)
		go receive(stream, newest, ended)
		for snapshot := range newest {
			if !yield(ipc.FromProto[state.Snapshot](snapshot), nil) {
				cancel()
				for range newest { // until the receiver has ended
				}
				return
			}
		}
		err = <-ended
		if ctx.Err() != nil {
			err = ctx.Err()
		} else {
			err = c.failed(ctx, l, err)
		}
		yield(state.Snapshot{}, err)
	}
}

// receive keeps the newest snapshot in a channel of one place. It closes the
// channel when the stream has ended, and says why in ended.
func receive(
	stream grpc.ServerStreamingClient[pb.WatchSnapshotsResponse], newest chan *pb.Snapshot, ended chan<- error,
) {
	defer close(newest)
	for {
		resp, err := stream.Recv()
		if err != nil {
			ended <- err
			return
		}
		select {
		case <-newest: // not taken yet, and out of date now
		default:
		}
		newest <- resp.GetSnapshot()
	}
}

// Follow is Watch for a front end that outlives the agent: when the agent goes
// away, or is not there, it yields the error once and tries on until the agent
// is back. It ends when the loop breaks or ctx ends, without a last error.
func (c *Client) Follow(ctx context.Context) iter.Seq2[state.Snapshot, error] {
	return func(yield func(state.Snapshot, error) bool) {
		pause, logged := followPauseFirst, false
		for {
			for snapshot, err := range c.Watch(ctx) {
				if ctx.Err() != nil {
					return
				}
				if err == nil {
					pause, logged = followPauseFirst, false
				} else if logged {
					break
				} else {
					logged = true
				}
				if !yield(snapshot, err) {
					return
				}
			}
			timer := time.NewTimer(pause)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			pause = min(pause*2, followPauseMax)
		}
	}
}
