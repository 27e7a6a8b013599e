//go:build unix

package ipc

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
)

// obliging is a backend that does nothing and agrees, so that a panic can only be
// the server's own.
type obliging struct {
	*fakeBackend
	LoginBackend
}

func (obliging) ListResources(context.Context, ResourceQuery) ([]Resource, []string, error) {
	return nil, nil, nil
}
func (obliging) AddTunnel(_ context.Context, spec state.TunnelSpec) (state.TunnelSpec, error) {
	return spec, nil
}
func (obliging) ChangeTunnel(_ context.Context, _ string, spec state.TunnelSpec) (state.TunnelSpec, error) {
	return spec, nil
}
func (obliging) RemoveTunnel(context.Context, string) error                        { return nil }
func (obliging) StartTunnel(context.Context, string) error                         { return nil }
func (obliging) StopTunnel(context.Context, string) error                          { return nil }
func (obliging) RestartTunnel(context.Context, string) error                       { return nil }
func (obliging) TunnelPlot(context.Context, string) ([]state.PlotPoint, error)     { return nil, nil }
func (obliging) TunnelClients(context.Context) ([]state.TunnelClient, error)       { return nil, nil }
func (obliging) TunnelHistory(context.Context, string) ([]state.Event, error)      { return nil, nil }
func (obliging) CheckTunnels(context.Context, []string) ([]state.Readiness, error) { return nil, nil }
func (obliging) Logout(context.Context, string, string) (string, error)            { return "", nil }
func (obliging) Forget(context.Context, string, string) (Forgotten, error)         { return Forgotten{}, nil }
func (obliging) Cancel(context.Context, string, string) error                      { return nil }
func (obliging) ChangeSetting(context.Context, SettingChange) error                { return nil }
func (obliging) DismissNotice(context.Context, string) error                       { return nil }
func (obliging) Snooze(context.Context, string, string) (Snoozed, error)           { return Snoozed{}, nil }
func (obliging) ReloadConfig(context.Context) error                                { return nil }
func (obliging) Shutdown()                                                         {}
func (obliging) LocalCA(context.Context) (LocalCA, error)                          { return LocalCA{}, nil }
func (obliging) KubeCredentials(context.Context, string, string) (KubeCredentials, error) {
	return KubeCredentials{}, nil
}
func (obliging) HandOver(context.Context, string, []string) (Successor, error) {
	return Successor{}, nil
}

// serveObliging serves an obliging backend until the test ends, and returns its
// address.
func serveObliging(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "berth")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	address := filepath.Join(dir, "agent.sock")
	ln, err := Listen(address)
	if err != nil {
		tb.Fatal(err)
	}
	b := obliging{fakeBackend: newFakeBackend()}
	srv := NewServer(ServerConfig{
		Backend: Backend{Agent: b, Tunnels: b, Logins: b, Renewals: b, Kube: b},
		Logger:  slog.New(slog.DiscardHandler), Grace: 100 * time.Millisecond,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx, ln) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	return address
}

// asBytes has gRPC send a request as it is, and take an answer so.
type asBytes struct{}

func (asBytes) Name() string { return "proto" }
func (asBytes) Marshal(v any) ([]byte, error) {
	return *v.(*[]byte), nil
}
func (asBytes) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = data
	return nil
}

// connectObliging returns a connection that sends bytes.
func connectObliging(tb testing.TB, address string) *grpc.ClientConn {
	tb.Helper()
	conn, err := grpc.NewClient("passthrough:///agent",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return Dial(ctx, address) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(asBytes{})))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// FuzzCalls makes every call of the agent with arbitrary requests: none panics, and
// what is answered is an error or a message.
func FuzzCalls(f *testing.F) {
	for method := range pb.Agent_ServiceDesc.Methods { // a call that the backend lacks would panic
		f.Add(method, []byte{})
	}
	f.Add(0, []byte("\x0a\x04prod"))
	f.Add(7, []byte("\x0a\x02\x08\x01"))
	f.Add(3, []byte(strings.Repeat("\x0a\xff", 9)))
	conn := connectObliging(f, serveObliging(f))
	f.Fuzz(func(t *testing.T, method int, request []byte) {
		methods := pb.Agent_ServiceDesc.Methods
		name := methods[uint(method)%uint(len(methods))].MethodName
		var answer []byte
		err := conn.Invoke(t.Context(), "/"+pb.Agent_ServiceDesc.ServiceName+"/"+name, &request, &answer)
		for _, d := range status.Convert(err).Details() {
			if d, ok := d.(*pb.ErrorDetail); ok && d.GetCode() == string(CodeInternal) {
				t.Errorf("%s(%q) = %v", name, request, err)
			}
		}
	})
}

// FuzzFrames sends arbitrary bytes to the socket, after HTTP/2's greeting or without:
// the server goes on.
func FuzzFrames(f *testing.F) {
	const greeting = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	f.Add(true, []byte("\x00\x00\x04\x01\x05\x00\x00\x00\x01\x82\x84\x86\x41"))
	f.Add(false, []byte("GET / HTTP/1.1\r\n\r\n"))
	address := serveObliging(f)
	calls := connectObliging(f, address)
	f.Fuzz(func(t *testing.T, greet bool, said []byte) {
		c, err := net.Dial("unix", address)
		if err != nil {
			t.Fatal(err)
		}
		if greet {
			said = append([]byte(greeting), said...)
		}
		_, _ = c.Write(said) // the server may have hung up
		_ = c.(*net.UnixConn).CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
		var request, answer []byte
		if err := calls.Invoke(t.Context(), pb.Agent_ReloadConfig_FullMethodName, &request, &answer); err != nil {
			t.Errorf("after %q: %v", said, err)
		}
	})
}

// TestHostileFrontEnd: requests of any size and any number cost bounded memory, and
// the largest that is taken is taken.
func TestHostileFrontEnd(t *testing.T) {
	conn := connectObliging(t, serveObliging(t))
	call := func(size int) error {
		request := make([]byte, size) // field 0, which protobuf refuses to read: only the size is judged
		var answer []byte
		return conn.Invoke(t.Context(), pb.Agent_StopTunnel_FullMethodName, &request, &answer)
	}
	if err := call(maxRequestBytes); status.Code(err) == codes.ResourceExhausted {
		t.Errorf("a request of %d bytes is too large: %v", maxRequestBytes, err)
	}
	err := call(maxRequestBytes + 1)
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a request of %d bytes: %v", maxRequestBytes+1, err)
	}
	if words := FromStatus(err).Error(); !strings.Contains(words, "a message is larger than the agent's socket carries") ||
		!strings.Contains(words, fmt.Sprint(maxRequestBytes)) {
		t.Errorf("the words are %q", words)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 200 {
		_ = call(maxRequestBytes + 1) // it is refused, as above
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 64<<20 {
		t.Errorf("200 requests that are too large leave %d MB", grown>>20)
	}
}
