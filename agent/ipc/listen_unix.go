//go:build unix

package ipc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// Listen opens the agent's control socket: mode 0600, in a folder of mode 0700
// that it makes when there is none. It refuses a folder others can enter or
// that is another user's, and anything at the address that is not a socket.
//
// A socket left behind by an agent that died is replaced, so the caller must
// hold the agent's lock: nothing else tells a dead socket from a live one.
func Listen(address string) (net.Listener, error) {
	if err := privateFolder(filepath.Dir(address)); err != nil {
		return nil, err
	}
	if err := removeStale(address); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "unix", address)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	if err := os.Chmod(address, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("open socket: %w", err), ln.Close())
	}
	return ln, nil
}

func privateFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder for the socket: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("check folder of the socket: %w", err)
	}
	if !info.IsDir() { // a symbolic link too: its target may be changed by others
		return &Error{
			Code:    CodeDenied,
			Message: fmt.Sprintf("socket folder %q is not a folder", dir),
			Hint:    "remove it, or put berth's files elsewhere with BERTH_HOME",
		}
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return &Error{
			Code:    CodeDenied,
			Message: fmt.Sprintf("socket folder %q belongs to user id %d, not to you", dir, st.Uid),
			Hint:    "put berth's files into a folder of your own with BERTH_HOME",
		}
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return &Error{
			Code:    CodeDenied,
			Message: fmt.Sprintf("socket folder %q is open to other users (mode %#o)", dir, perm),
			Hint:    fmt.Sprintf("close it with: chmod 700 %q", dir),
		}
	}
	return nil
}

// removeStale removes the socket at path, if there is one, and nothing else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("check for an old socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return &Error{
			Code:    CodeExists,
			Message: fmt.Sprintf("%q is in the socket's place and is not a socket", path),
			Hint:    "move it away, then start the agent again",
		}
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove an old socket: %w", err)
	}
	return nil
}

// Dial connects to the agent at address and checks that it is this user's. No
// agent there is [ErrNotRunning].
func Dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", address)
	switch {
	case err == nil:
		return checkServer(conn, address)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR),
		errors.Is(err, syscall.ECONNREFUSED):
		return nil, notRunning(err)
	case errors.Is(err, fs.ErrPermission):
		return nil, foreign(address, err)
	default:
		return nil, fmt.Errorf("connect to the agent: %w", err)
	}
}
