package tunnel

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"berth/internal/simcluster/faketsh"
	"berth/internal/testwait"
)

func TestMain(m *testing.M) {
	if faketsh.Invoked(os.Args[0], os.Environ()) {
		os.Exit(faketsh.Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
	}
	testwait.NoLeaks(m,
		// Kept by gRPC's package state for the process's life.
		goleak.IgnoreTopFunction("google.golang.org/grpc/internal/grpcsync.(*CallbackSerializer).run"),
	)
}
