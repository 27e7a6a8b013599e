package ipc

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"

	pb "berth/agent/ipc/berthv1"
)

// interceptor stands around every call: it bounds its time, turns a panic into
// an error of that call alone, and gives errors their gRPC form.
type interceptor struct {
	log     *slog.Logger
	timeout time.Duration
}

func (i interceptor) unary(
	ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler,
) (resp any, err error) {
	if info.FullMethod != pb.AccessRequests_Assume_FullMethodName { // which waits for a login as long as its caller wants
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, i.timeout)
		defer cancel()
	}
	defer i.finish(ctx, info.FullMethod, time.Now(), &err)
	return next(ctx, req)
}

func (i interceptor) stream(
	srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler,
) (err error) {
	defer i.finish(ss.Context(), info.FullMethod, time.Now(), &err)
	return next(srv, ss)
}

// finish is deferred around a handler, for recover to work.
func (i interceptor) finish(ctx context.Context, method string, start time.Time, err *error) {
	method = path.Base(method)
	if r := recover(); r != nil {
		i.log.Error("[unexpected] panic in a call", "method", method, "panic", fmt.Sprint(r),
			"stack", string(debug.Stack()))
		*err = &Error{
			Code:    CodeInternal,
			Message: "the agent met a bug in itself while doing this",
			Hint:    `please report it with the lines around "[unexpected]" in the agent's log`,
		}
	}
	p, _ := PeerFrom(ctx)
	i.log.Debug("call", "method", method, "peer_pid", p.PID, "took", time.Since(start), "err", *err)
	*err = toStatus(*err)
}
