package ipc

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
)

// fakeBackend is an agent of one counter: the snapshot's pid.
type fakeBackend struct {
	TunnelBackend // what a test does not set panics
	LoginBackend
	RenewalBackend
	KubeBackend
	AgentBackend

	mu   sync.Mutex
	cur  state.Snapshot
	wake chan struct{}
	subs int

	stop func(ctx context.Context, name string) error
}

func (b *fakeBackend) all() Backend {
	return Backend{Agent: b, Tunnels: b, Logins: b, Renewals: b, Kube: b}
}

func newFakeBackend() *fakeBackend { return &fakeBackend{wake: make(chan struct{}, 1)} }

func (b *fakeBackend) publish(n int) {
	b.mu.Lock()
	b.cur.Agent.PID = n
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *fakeBackend) Snapshot() *state.Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	return new(b.cur)
}

func (b *fakeBackend) Subscribe() (<-chan struct{}, func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs++
	return b.wake, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.subs--
	}
}

func (b *fakeBackend) subscribers() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.subs
}

func (b *fakeBackend) StopTunnel(ctx context.Context, name string) error { return b.stop(ctx, name) }

// blockedStream is a reader that takes a message only when told to.
type blockedStream struct {
	grpc.ServerStream

	ctx  context.Context
	take chan int
}

func (s *blockedStream) Context() context.Context     { return s.ctx }
func (s *blockedStream) SetHeader(metadata.MD) error  { return nil }
func (s *blockedStream) SendHeader(metadata.MD) error { return nil }

func (s *blockedStream) Send(m *pb.WatchSnapshotsResponse) error {
	select {
	case s.take <- int(m.GetSnapshot().GetAgent().GetPid()):
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func TestWatchCoalescesForASlowReader(t *testing.T) {
	b := newFakeBackend()
	b.publish(1)
	<-b.wake
	ctx, cancel := context.WithCancel(t.Context())
	stream := &blockedStream{ctx: ctx, take: make(chan int)}
	done := make(chan error, 1)
	go func() {
		svc := &service{backend: b.all(), stopping: make(chan struct{})}
		done <- svc.WatchSnapshots(&pb.WatchSnapshotsRequest{}, stream)
	}()
	if got := <-stream.take; got != 1 {
		t.Fatalf("first snapshot is %d, want the current one, 1", got)
	}
	for n := 2; n <= 1000; n++ {
		b.publish(n)
	}
	sent := []int{<-stream.take}
	for sent[len(sent)-1] != 1000 {
		sent = append(sent, <-stream.take)
	}
	// One may have been on its way when the burst began; the next is the last.
	if len(sent) > 3 {
		t.Errorf("a reader that slept through 999 updates got %d snapshots (%v), want at most 3", len(sent), sent)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("after the reader left: %v", err)
	}
	if n := b.subscribers(); n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
}

// TestWatchIsPaced: what changes a thousand times a second is sent a few times,
// and the last of it is.
func TestWatchIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFakeBackend()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream := &blockedStream{ctx: ctx, take: make(chan int)}
		svc := &service{backend: b.all(), stopping: make(chan struct{})}
		go func() { _ = svc.WatchSnapshots(&pb.WatchSnapshotsRequest{}, stream) }()
		var sent []int
		go func() {
			for {
				select {
				case n := <-stream.take:
					sent = append(sent, n)
				case <-ctx.Done():
					return
				}
			}
		}()
		for n := range 1000 {
			b.publish(n + 1)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if most := int(time.Second/watchPace) + 2; len(sent) > most || sent[len(sent)-1] != 1000 {
			t.Errorf("%d snapshots were sent (%v), want %d at most and the last", len(sent), sent, most)
		}
		b.publish(1001)
		synctest.Wait()
		if sent[len(sent)-1] != 1001 {
			t.Error("after a while of quiet a snapshot waits")
		}
	})
}

func TestPanicEndsOneCallOnly(t *testing.T) {
	var logged bytes.Buffer
	in := interceptor{log: slog.New(slog.NewTextHandler(&logged, nil)), timeout: time.Minute}
	info := &grpc.UnaryServerInfo{FullMethod: "/berth.v1.Agent/StopTunnel"}
	_, err := in.unary(t.Context(), nil, info, func(context.Context, any) (any, error) { panic("boom") })
	var e *Error
	if !errors.As(FromStatus(err), &e) || e.Code != CodeInternal || e.Hint == "" {
		t.Fatalf("a panic becomes %v, want code internal with a hint", err)
	}
	for _, want := range []string{"[unexpected]", "boom", "method=StopTunnel", "server_test.go"} {
		if !bytes.Contains(logged.Bytes(), []byte(want)) {
			t.Errorf("log has no %q: %s", want, logged.String())
		}
	}
	if bytes.Contains([]byte(e.Message), []byte("boom")) {
		t.Errorf("the panic's text reached the caller: %s", e.Message)
	}
}

func TestCallsAreBounded(t *testing.T) {
	in := interceptor{log: slog.New(slog.DiscardHandler), timeout: 10 * time.Millisecond}
	info := &grpc.UnaryServerInfo{FullMethod: "/berth.v1.Agent/ListResources"}
	_, err := in.unary(t.Context(), nil, info, func(ctx context.Context, _ any) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	var e *Error
	if !errors.As(FromStatus(err), &e) || e.Code != CodeTimeout {
		t.Errorf("a call past its time gives %v, want code timeout", err)
	}
}

func TestNewServerWantsItsParts(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a server without a backend was built")
		}
	}()
	NewServer(ServerConfig{Logger: slog.New(slog.DiscardHandler)})
}
