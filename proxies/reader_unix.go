//go:build unix

package proxies

import (
	"io"
	"net"
	"os"
	"syscall"
)

// tcpReader takes a buffer only once there is something to read.
type tcpReader struct {
	raw syscall.RawConn
	try func(fd uintptr) bool // readNow, made once
	buf *buffer
	n   int
	err error
}

func newTCPReader(tcp *net.TCPConn) reader {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	r := &tcpReader{raw: raw}
	r.try = r.readNow
	return r
}

func (r *tcpReader) next() ([]byte, error) {
	r.n, r.err = 0, nil
	if err := r.raw.Read(r.try); err != nil {
		return nil, err
	}
	if r.err != nil {
		return nil, r.err
	}
	if r.n == 0 {
		return nil, io.EOF
	}
	return r.buf[:r.n], nil
}

// readNow reads what there is, and reports false to be called again when
// there is something.
func (r *tcpReader) readNow(fd uintptr) bool {
	buf := buffers.Get().(*buffer)
	for {
		n, err := syscall.Read(int(fd), buf[:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			buffers.Put(buf)
			return false
		case err != nil:
			buffers.Put(buf)
			r.err = os.NewSyscallError("read", err)
			return true
		}
		r.buf, r.n = buf, n
		return true
	}
}

func (r *tcpReader) release() {
	if r.buf != nil {
		buffers.Put(r.buf)
		r.buf = nil
	}
}
