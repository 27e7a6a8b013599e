// Package handover is the private line between an agent and the one that takes its
// place: a pair of connected sockets that passes listening sockets, clients and
// values. The agent that ends starts its successor with the other end of the line;
// the successor says that it is ready, gets everything, and says that it serves.
// Until then nothing has changed for the agent before, whatever happens to the
// successor. Afterwards the line stays open for as long as either has something to
// say: how many connections the one before still serves, and that they are to end.
//
// cloudflare/tableflip does not fit: it passes listeners alone, to a child of its
// own making, and knows no clients that are held, no values and no service manager.
package handover

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"berth/internal/wake"
)

// Format is the version of what is said over a line. Agents that speak another one
// do not take each other's place.
const Format = 1

// FDVar names in a successor's environment the descriptor of its line.
const FDVar = "BERTH_HANDOVER_FD"

// Kind says what a message means.
type Kind string

// The messages from the successor, and then those from the agent before it.
const (
	// Ready says that the successor could serve. It has Format and Version.
	Ready Kind = "ready"
	// Refused says why it could not.
	Refused Kind = "refused"
	// Serving says that it serves, and is the agent from now on.
	Serving Kind = "serving"
	// Close asks for the end of a tunnel's connections; Tunnel empty means all.
	Close Kind = "close"
	// Exit says that the successor has ended as it was asked to.
	Exit Kind = "exit"

	// Sockets passes listening sockets.
	Sockets Kind = "sockets"
	// Former passes the line to an agent before this one.
	Former Kind = "former"
	// Take ends what a successor needs. It has State and passes the lock and the
	// control socket.
	Take Kind = "take"
	// Client passes a held client of a tunnel, and what it has said.
	Client Kind = "client"
	// Moved says that no further client is passed.
	Moved Kind = "moved"
	// Open says how many connections the agent before still serves.
	Open Kind = "open"
	// Counted says what connections of the agent before have moved since it said so
	// last, or handed over. It has State.
	Counted Kind = "counted"
	// Stop asks the successor to stop, as a signal would.
	Stop Kind = "stop"
)

// Message is one thing said over a line.
type Message struct {
	Kind        Kind            `json:"kind"`
	Format      int             `json:"format,omitempty"`
	Version     string          `json:"version,omitempty"`
	Text        string          `json:"text,omitempty"`
	Tunnel      string          `json:"tunnel,omitempty"`
	Said        []byte          `json:"said,omitempty"`
	Connections int             `json:"connections,omitempty"`
	State       json.RawMessage `json:"state,omitempty"`
	FDs         int             `json:"fds,omitempty"` // that come with the message
}

// maxMessage bounds a message: the state of a thousand tunnels is well below it.
const maxMessage = 64 << 20

// ErrUnsupported says that this system passes no sockets from process to process.
var ErrUnsupported = errors.New("on this system an agent cannot hand over to another one")

// ErrPaused is how Receive returns on a line that is paused.
var ErrPaused = errors.New("the line is paused")

// amid is how long the rest of a message may take on a line that is paused.
const amid = 5 * time.Second

// sendMost is how long it may take to say something, the turn included: the other end
// reads all the time, unless it hangs.
const sendMost = 30 * time.Second

// Line is one end of a line. One goroutine may receive while others send.
type Line struct {
	conn     socket
	sendMost time.Duration

	paused atomic.Bool

	sending wake.Turn
	files   []file // received, and not yet taken by a message; the receiver's
}

// Send says m and passes descriptors, which stay open here. It returns within half a
// minute: to an end that did not read for so long, nothing can be said any more.
func (l *Line) Send(m Message, fds ...Descriptor) error {
	m.FDs = len(fds)
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(text)))
	ctx, cancel := context.WithTimeout(context.Background(), l.sendMost)
	defer cancel()
	if !l.sending.Take(ctx) {
		return fmt.Errorf("hand over: %w", ctx.Err())
	}
	defer l.sending.Give()
	until, _ := ctx.Deadline()
	if err := l.send(append(frame, text...), fds, until); err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	return nil
}

// Pause has Receive return ErrPaused between two messages, of which the second is
// still all there for whoever gets the line. One that has begun to come is received.
func (l *Line) Pause() {
	l.paused.Store(true)
	_ = l.setReadDeadline(time.Now()) // a line that is closed is received no more
}

// Resume has Receive receive again. Nothing may receive while it is called.
func (l *Line) Resume() {
	l.paused.Store(false)
	_ = l.setReadDeadline(time.Time{})
}

// Receive waits for the next message; io.EOF means that the other end is gone.
func (l *Line) Receive() (Message, []Received, error) {
	var m Message
	if l.paused.Load() {
		return m, nil, ErrPaused
	}
	head := make([]byte, 4)
	if err := l.readFull(head, true); err != nil {
		return m, nil, err
	}
	size := binary.BigEndian.Uint32(head)
	if size > maxMessage {
		return m, nil, fmt.Errorf("hand over: a message of %d bytes", size)
	}
	text := make([]byte, size)
	if err := l.readFull(text, false); err != nil {
		return m, nil, errors.Join(err, io.ErrUnexpectedEOF)
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&m); err != nil {
		return m, nil, fmt.Errorf("hand over: %w", err)
	}
	if m.FDs < 0 || m.FDs > len(l.files) {
		return m, nil, fmt.Errorf("hand over: %d descriptors, not %d", len(l.files), m.FDs)
	}
	files := make([]Received, m.FDs)
	for i := range files {
		files[i] = Received{l.files[i]}
	}
	l.files = l.files[m.FDs:]
	return m, files, nil
}
