package handover

import (
	"net"
	"os"
	"time"
)

type (
	socket = struct{}
	file   = *os.File
)

// Descriptor is what Send would pass.
type Descriptor = any

// Received is a descriptor; none comes.
type Received struct{ file file }

// Listener fails.
func (Received) Listener() (net.Listener, error) { return nil, ErrUnsupported }

// Conn fails.
func (Received) Conn() (net.Conn, error) { return nil, ErrUnsupported }

// Line fails.
func (Received) Line() (*Line, error) { return nil, ErrUnsupported }

// File returns nil.
func (Received) File() *os.File { return nil }

// Close does nothing.
func (Received) Close() {}

// Close does nothing.
func (*Line) Close() error { return nil }

func (*Line) send([]byte, []Descriptor, time.Time) error { return ErrUnsupported }

func (*Line) readFull([]byte, bool) error { return ErrUnsupported }

func (*Line) setReadDeadline(time.Time) error { return nil }

// FromEnv returns nil: no process is a successor.
func FromEnv() (*Line, error) { return nil, nil }

// Successor is a process that would take this one's place.
type Successor struct{ *Line }

// Start fails.
func Start(string, []string, []string) (*Successor, error) { return nil, ErrUnsupported }

// PID returns 0.
func (*Successor) PID() int { return 0 }

// Await fails.
func (*Successor) Await(Kind, time.Duration) (Message, error) { return Message{}, ErrUnsupported }

// Kill does nothing.
func (*Successor) Kill() {}
