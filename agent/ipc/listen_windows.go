package ipc

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

// pipeBuffer is the hint for each direction's buffer, in bytes.
const pipeBuffer = 64 << 10

// Listen opens the agent's named pipe. Its access list names the current user
// alone, remote clients are refused, and it fails when the name is taken:
// another program may be waiting there for berth's clients.
func Listen(address string) (net.Listener, error) {
	sid, err := selfUID()
	if err != nil {
		return nil, fmt.Errorf("open control pipe: %w", err)
	}
	l, err := winio.ListenPipe(address, &winio.PipeConfig{
		SecurityDescriptor: "D:P(A;;GA;;;" + sid + ")",
		InputBufferSize:    pipeBuffer,
		OutputBufferSize:   pipeBuffer,
	})
	switch {
	case errors.Is(err, windows.ERROR_ACCESS_DENIED), errors.Is(err, windows.ERROR_ALREADY_EXISTS),
		errors.Is(err, windows.ERROR_PIPE_BUSY):
		return nil, &Error{
			Code:    CodeExists,
			Message: fmt.Sprintf("the pipe %q is taken by another program", address),
			Hint:    "end that program, then start the agent again",
			cause:   err,
		}
	case err != nil:
		return nil, fmt.Errorf("open control pipe %q: %w", address, err)
	}
	return l, nil
}

// Dial connects to the agent at address and checks that it is this user's. No
// agent there is [ErrNotRunning].
func Dial(ctx context.Context, address string) (net.Conn, error) {
	// Identification only: a false server learns who calls, and cannot act in
	// the caller's name.
	conn, err := winio.DialPipeAccessImpLevel(ctx, address, windows.GENERIC_READ|windows.GENERIC_WRITE,
		winio.PipeImpLevelIdentification)
	switch {
	case errors.Is(err, windows.ERROR_FILE_NOT_FOUND):
		return nil, notRunning(err)
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return nil, foreign(address, err)
	case err != nil:
		return nil, fmt.Errorf("connect to the agent: %w", err)
	}
	return checkServer(conn, address)
}
