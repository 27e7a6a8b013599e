//go:build unix

package frugal

import (
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
)

// socket is a TCP connection that is waited for without a buffer.
type socket struct {
	raw     syscall.RawConn
	waiting atomic.Bool
	try     func(fd uintptr) bool // readNow, made once
	buf     *Buffer
	at      int // where in buf to read to
	n       int // how much was read
	err     error
}

func newSocket(tcp *net.TCPConn) Reader {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	s := &socket{raw: raw}
	s.try = s.readNow
	return s
}

func (s *socket) Waiting() bool { return s.waiting.Load() }

func (s *socket) Read(b **Buffer, n int) (int, error) {
	s.buf, s.at, s.n, s.err = *b, n, 0, nil
	err := s.raw.Read(s.try)
	*b, s.buf = s.buf, nil
	switch {
	case err != nil:
		return 0, err
	case s.err != nil:
		return 0, s.err
	case s.n == 0:
		return 0, io.EOF
	default:
		return s.n, nil
	}
}

// readNow reads what there is, and reports false to be called again when
// there is something.
func (s *socket) readNow(fd uintptr) bool {
	s.waiting.Store(false)
	taken := s.buf == nil
	if taken {
		s.buf = Take()
	}
	n, err := syscall.Read(int(fd), s.buf[s.at:])
	for err == syscall.EINTR {
		n, err = syscall.Read(int(fd), s.buf[s.at:])
	}
	if err == nil && n > 0 {
		s.n = n
		return true
	}
	if taken {
		Give(s.buf)
		s.buf = nil
	}
	if err == syscall.EAGAIN {
		s.waiting.Store(true)
		return false
	}
	if err != nil {
		s.err = os.NewSyscallError("read", err)
	}
	return true
}
