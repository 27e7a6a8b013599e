package tunnel

import (
	"context"
	"errors"

	"berth/certwatch"
)

// CodeNeed is a tunnel that takes a one-time code, or the PIN of a security key:
// its cluster asks for one for each session. Its funcs may be called from any
// goroutine.
type CodeNeed struct {
	Profile *certwatch.Profile
	Tunnel  string
	PIN     bool
	Held    func() bool // a client waits for it, here or in tsh
	Met     func() bool // it has what it needs: another tunnel's code served it too
	// Answer fetches the tunnel's cert with a code. Its error matches
	// cluster.ErrWrongCode or ErrUsedCode when the code is at fault.
	Answer func(ctx context.Context, code string) error
}

// errKeyNeeded says that a person must touch a security key.
var errKeyNeeded = errors.New(keyPerSession)
