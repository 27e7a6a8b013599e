package ipc

import (
	"errors"
	"net"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"
)

// pipeBuffer is the hint for each direction's buffer, in bytes.
const pipeBuffer = 64 << 10

// pipeListener serves one named pipe: an instance is always there, either
// waiting for a client or about to, so that a client never finds the name gone.
type pipeListener struct {
	name string
	path *uint16
	sa   *windows.SecurityAttributes
	stop windows.Handle // manual-reset event, set by Close

	accept sync.Mutex // held by Accept: instances are made one after another

	mu     sync.Mutex
	next   windows.Handle // the waiting instance; guarded by mu
	closed bool           // guarded by mu
}

func newPipeListener(name, sddl string) (*pipeListener, error) {
	sd, err := windows.SecurityDescriptorFromString(sddl)
	if err != nil {
		return nil, err
	}
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	l := &pipeListener{name: name, path: path, sa: &windows.SecurityAttributes{
		Length:             uint32(unsafe.Sizeof(windows.SecurityAttributes{})),
		SecurityDescriptor: sd,
	}}
	if l.next, err = l.create(windows.FILE_FLAG_FIRST_PIPE_INSTANCE); err != nil {
		return nil, err
	}
	if l.stop, err = windows.CreateEvent(nil, 1, 0, nil); err != nil {
		return nil, errors.Join(err, windows.CloseHandle(l.next))
	}
	return l, nil
}

func (l *pipeListener) create(flags uint32) (windows.Handle, error) {
	return windows.CreateNamedPipe(l.path,
		windows.PIPE_ACCESS_DUPLEX|windows.FILE_FLAG_OVERLAPPED|flags,
		windows.PIPE_TYPE_BYTE|windows.PIPE_REJECT_REMOTE_CLIENTS,
		windows.PIPE_UNLIMITED_INSTANCES, pipeBuffer, pipeBuffer, 0, l.sa)
}

// Accept waits for the next client.
func (l *pipeListener) Accept() (net.Conn, error) {
	l.accept.Lock()
	defer l.accept.Unlock()
	for {
		l.mu.Lock()
		h, closed := l.next, l.closed
		l.mu.Unlock()
		if closed {
			return nil, net.ErrClosed
		}
		err := l.connect(h)
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		// The client has the instance, or has left already: put the next one
		// in its place before anything else, so that the name stays taken.
		fresh, createErr := l.create(0)
		if createErr != nil {
			return nil, &net.OpError{Op: "accept", Net: "pipe", Addr: l.Addr(), Err: createErr}
		}
		l.replace(fresh)
		if err != nil {
			_ = windows.CloseHandle(h)
			continue
		}
		return &pipeConn{File: os.NewFile(uintptr(h), l.name), handle: h, name: l.name}, nil
	}
}

// replace makes fresh the waiting instance, unless the listener is closed.
func (l *pipeListener) replace(fresh windows.Handle) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = windows.CloseHandle(fresh)
		fresh = windows.InvalidHandle // the old one is the client's now
	}
	l.next = fresh
}

// connect waits until a client has opened the instance h.
func (l *pipeListener) connect(h windows.Handle) error {
	event, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(event) //nolint:errcheck // nothing depends on it any more
	overlapped := &windows.Overlapped{HEvent: event}
	err = windows.ConnectNamedPipe(h, overlapped)
	switch {
	case err == nil, errors.Is(err, windows.ERROR_PIPE_CONNECTED):
		return nil
	case !errors.Is(err, windows.ERROR_IO_PENDING):
		return err // ERROR_NO_DATA: the client has come and gone
	}
	which, err := windows.WaitForMultipleObjects([]windows.Handle{l.stop, event}, false, windows.INFINITE)
	if err != nil {
		return err
	}
	var n uint32
	if which == windows.WAIT_OBJECT_0 {
		// The kernel writes to overlapped until the cancelled wait has ended.
		_ = windows.CancelIoEx(h, overlapped)
		_ = windows.GetOverlappedResult(h, overlapped, &n, true)
		return net.ErrClosed
	}
	return windows.GetOverlappedResult(h, overlapped, &n, true)
}

// Close ends a waiting Accept and takes the name away.
func (l *pipeListener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return net.ErrClosed
	}
	l.closed = true
	l.mu.Unlock()
	err := windows.SetEvent(l.stop)
	l.accept.Lock() // once Accept has returned, the waiting instance is nobody's
	defer l.accept.Unlock()
	if l.next != windows.InvalidHandle {
		err = errors.Join(err, windows.CloseHandle(l.next))
	}
	return errors.Join(err, windows.CloseHandle(l.stop))
}

// Addr returns the pipe's name.
func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.name) }

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

// pipeConn is an open pipe. The File brings overlapped reads, writes and
// deadlines.
type pipeConn struct {
	*os.File

	handle windows.Handle
	name   string
}

// LocalAddr returns the pipe's name.
func (c *pipeConn) LocalAddr() net.Addr { return pipeAddr(c.name) }

// RemoteAddr returns the pipe's name: the client has none of its own.
func (c *pipeConn) RemoteAddr() net.Addr { return pipeAddr(c.name) }
