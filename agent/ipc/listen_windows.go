package ipc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// pipeBusyPause is how long a client waits when every instance of the pipe is
// taken: the server makes the next one as soon as it has accepted.
const pipeBusyPause = 5 * time.Millisecond

// Listen opens the agent's named pipe. Its access list names the current user
// alone, remote clients are refused, and it fails when the name is taken:
// somebody else may be waiting there for berth's clients.
func Listen(address string) (net.Listener, error) {
	sid, err := selfUID()
	if err != nil {
		return nil, fmt.Errorf("open control pipe: %w", err)
	}
	l, err := newPipeListener(address, "D:P(A;;GA;;;"+sid+")")
	switch {
	case errors.Is(err, windows.ERROR_ACCESS_DENIED), errors.Is(err, windows.ERROR_PIPE_BUSY):
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
	name, err := windows.UTF16PtrFromString(address)
	if err != nil {
		return nil, fmt.Errorf("connect to the agent: %w", err)
	}
	for {
		// Identification only: a false server learns who calls, and cannot act
		// in the caller's name.
		h, err := windows.CreateFile(name, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, nil,
			windows.OPEN_EXISTING, windows.FILE_FLAG_OVERLAPPED|
				windows.SECURITY_SQOS_PRESENT|windows.SECURITY_IDENTIFICATION, 0)
		switch {
		case err == nil:
			conn := &pipeConn{File: os.NewFile(uintptr(h), address), handle: h, name: address}
			return checkServer(conn, address)
		case errors.Is(err, windows.ERROR_FILE_NOT_FOUND):
			return nil, notRunning(err)
		case errors.Is(err, windows.ERROR_ACCESS_DENIED):
			return nil, foreign(address, err)
		case !errors.Is(err, windows.ERROR_PIPE_BUSY):
			return nil, fmt.Errorf("connect to the agent: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to the agent: %w", ctx.Err())
		case <-time.After(pipeBusyPause):
		}
	}
}
