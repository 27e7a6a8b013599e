package tunnel

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"berth/agent/cluster"
	"berth/agent/memory"
	"berth/agent/state"
	"berth/proxies/route"
)

// A machine that lets the agent open no more connections is not a proxy that is
// away, whoever says it.
func TestFilesExhausted(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.EMFILE)}
	spec := state.TunnelSpec{Name: "pg", Kind: state.KindDB, Cluster: "example.com", Resource: "pg"}
	for name, err := range map[string]error{
		"route": fmt.Errorf("%w: %w", route.ErrUnreachable, dial),
		"system": fmt.Errorf("%w: %w", route.ErrUnreachable,
			&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.ENFILE)}),
		"grpc": &cluster.UnreachableError{Proxy: "p.example.com:443", Err: status.Error(grpccodes.Unavailable,
			fmt.Sprintf("connection error: desc = %q", "transport: Error while dialing: "+dial.Error()))},
	} {
		p := problemFor(err, spec, "p.example.com:443", "", memory.Profile{})
		if p.Code != state.CodeFilesExhausted {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
