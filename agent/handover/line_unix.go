//go:build unix

package handover

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxRights is how many descriptors one packet carries: systems allow about 250.
const maxRights = 200

type (
	socket = *net.UnixConn
	file   = *os.File
)

// Descriptor is what Send passes: a connection, a listener or a file.
type Descriptor = syscall.Conn

// Received is a descriptor that came with a message.
type Received struct{ file file }

// Listener returns it as a listener.
func (r Received) Listener() (net.Listener, error) {
	defer r.Close()
	return net.FileListener(r.file)
}

// Conn returns it as a connection.
func (r Received) Conn() (net.Conn, error) {
	defer r.Close()
	return net.FileConn(r.file)
}

// Line returns it as a line.
func (r Received) Line() (*Line, error) {
	c, err := r.Conn()
	if err != nil {
		return nil, err
	}
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("hand over: not a line"), c.Close())
	}
	return &Line{conn: uc, sendMost: sendMost}, nil
}

// File returns it as it is.
func (r Received) File() *os.File { return r.file }

// Close closes it.
func (r Received) Close() { _ = r.file.Close() }

// Close ends the line.
func (l *Line) Close() error { return l.conn.Close() }

// SyscallConn is the line's socket, to pass it on.
func (l *Line) SyscallConn() (syscall.RawConn, error) { return l.conn.SyscallConn() }

func (l *Line) setReadDeadline(at time.Time) error { return l.conn.SetReadDeadline(at) }

func (l *Line) send(frame []byte, fds []Descriptor, until time.Time) (err error) {
	dups, err := duplicates(fds)
	defer func() {
		for _, fd := range dups {
			_ = unix.Close(fd)
		}
	}()
	if err != nil {
		return err
	}
	_ = l.conn.SetWriteDeadline(until) // fails on a closed line only
	defer func() {
		if errors.Is(err, os.ErrDeadlineExceeded) { // perhaps amid a message: what follows would not be understood
			_ = l.conn.CloseWrite()
		}
	}()
	// The frame's head is four bytes; each packet takes one of them along.
	for len(dups) > 0 {
		n := min(len(dups), maxRights)
		if len(frame) <= 1 {
			return fmt.Errorf("%d descriptors do not fit", len(fds))
		}
		if _, _, err := l.conn.WriteMsgUnix(frame[:1], unix.UnixRights(dups[:n]...), nil); err != nil {
			return err
		}
		for _, fd := range dups[:n] {
			_ = unix.Close(fd)
		}
		frame, dups = frame[1:], dups[n:]
	}
	_, err = l.conn.Write(frame)
	return err
}

// duplicates returns copies of descriptors that no other goroutine closes meanwhile.
func duplicates(fds []Descriptor) (dups []int, err error) {
	for _, d := range fds {
		raw, err := d.SyscallConn()
		if err != nil {
			return dups, err
		}
		var dup int
		var failed error
		err = raw.Control(func(fd uintptr) { dup, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
		if err = errors.Join(err, failed); err != nil {
			return dups, err
		}
		dups = append(dups, dup)
	}
	return dups, nil
}

// readFull fills buf, and keeps the descriptors that come along. A pause ends it only
// before the first byte of a message.
func (l *Line) readFull(buf []byte, begins bool) error {
	rights := make([]byte, unix.CmsgSpace(4*maxRights))
	more := false // whether the pause has been put off
	for got := 0; got < len(buf); {
		n, oobn, _, _, err := l.conn.ReadMsgUnix(buf[got:], rights)
		if oobn > 0 {
			if err := l.keep(rights[:oobn]); err != nil {
				return err
			}
		}
		got += max(n, 0)
		switch {
		case err != nil && got > 0 && errors.Is(err, io.EOF), err == nil && n == 0 && got > 0:
			return io.ErrUnexpectedEOF
		case err == nil && n == 0:
			return io.EOF
		case errors.Is(err, os.ErrDeadlineExceeded) && l.paused.Load() && begins && got == 0:
			return ErrPaused
		case errors.Is(err, os.ErrDeadlineExceeded) && l.paused.Load() && !more:
			more = true
			_ = l.setReadDeadline(time.Now().Add(amid)) // the next read says so if it is closed
		case err != nil:
			return err
		}
	}
	return nil
}

func (l *Line) keep(rights []byte) error {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // it passes something else
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			l.files = append(l.files, os.NewFile(uintptr(fd), "handed over"))
		}
	}
	return nil
}

// FromEnv returns a successor's line; nil when this process is none.
func FromEnv() (*Line, error) {
	text := os.Getenv(FDVar)
	if text == "" {
		return nil, nil
	}
	_ = os.Unsetenv(FDVar) // it fails for bad names only
	fd, err := strconv.Atoi(text)
	if err != nil || fd <= 2 {
		return nil, fmt.Errorf("%s=%q names no descriptor", FDVar, text)
	}
	unix.CloseOnExec(fd)
	return Received{os.NewFile(uintptr(fd), "line")}.Line()
}

// Pair returns both ends of a new line.
func Pair() (near *Line, far *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a line: %w", err)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	far = os.NewFile(uintptr(fds[1]), "line")
	near, err = Received{os.NewFile(uintptr(fds[0]), "line")}.Line()
	if err != nil {
		return nil, nil, errors.Join(err, far.Close())
	}
	return near, far, nil
}

// Successor is a process that is to take this one's place.
type Successor struct {
	*Line
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has; err is set
	err    error
}

// Start starts a successor: program with args, in env.
func Start(program string, args, env []string) (*Successor, error) {
	near, far, err := Pair()
	if err != nil {
		return nil, err
	}
	defer far.Close()
	cmd := exec.Command(program, args...) //nolint:noctx // it outlives every context of this process
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{far}
	env = slices.DeleteFunc(slices.Clone(env), func(e string) bool { return len(e) > len(FDVar) && e[:len(FDVar)+1] == FDVar+"=" })
	cmd.Env = append(env, FDVar+"=3")
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", program, err), near.Close())
	}
	s := &Successor{Line: near, cmd: cmd, exited: make(chan struct{})}
	go func() {
		s.err = cmd.Wait()
		close(s.exited)
	}()
	return s, nil
}

// PID is the successor's process id.
func (s *Successor) PID() int { return s.cmd.Process.Pid }

// Await receives a message of the kind, for limit at most. Otherwise the error says
// what came instead.
func (s *Successor) Await(kind Kind, limit time.Duration) (Message, error) {
	_ = s.setReadDeadline(time.Now().Add(limit)) // fails on a closed line only
	defer func() { _ = s.setReadDeadline(time.Time{}) }()
	m, files, err := s.Receive()
	for _, f := range files {
		f.Close()
	}
	switch {
	case err == nil && m.Kind == kind:
		return m, nil
	case err == nil && m.Kind == Refused:
		return m, errors.New(m.Text)
	case err == nil:
		return m, fmt.Errorf("it said %q where %q was due", m.Kind, kind)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return m, fmt.Errorf("it did not say that it is %s within %v", kind, limit)
	}
	select { // the line has ended: the process will have
	case <-s.exited:
		if s.err != nil {
			return m, fmt.Errorf("it ended before it was %s: %w", kind, s.err)
		}
		return m, fmt.Errorf("it ended before it was %s", kind)
	case <-time.After(limit):
		return m, fmt.Errorf("it closed the line before it was %s", kind)
	}
}

// Kill ends a successor that has not taken over, and waits for it.
func (s *Successor) Kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.exited
	_ = s.Close()
}
