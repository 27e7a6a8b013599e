//go:build unix

package handover

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"berth/internal/testneeds"
)

// newPair returns both ends of a line.
func newPair(t *testing.T) (near, far *Line) {
	t.Helper()
	near, f, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	far, err = Received{f}.Line()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = near.Close() // a test may have closed them
		_ = far.Close()
	})
	return near, far
}

// TestPauseTearsNoMessage: a line is paused while half a message has come. That one
// is received, and the next by whoever the line is given to.
func TestPauseTearsNoMessage(t *testing.T) {
	oldest, middle := newPair(t)
	type heard struct {
		Message
		err error
	}
	said := make(chan heard)
	go func() {
		for {
			m, _, err := middle.Receive()
			said <- heard{m, err}
			if err != nil {
				return
			}
		}
	}()
	next := long(t, 2) // made before the pause, which has an end
	rest := begin(t, oldest, long(t, 1))
	middle.Pause()
	sent := make(chan error, 1)
	go func() {
		_, err := oldest.conn.Write(append(rest, next...))
		sent <- err
	}()
	if got := <-said; got.err != nil || got.Connections != 1 {
		t.Errorf("the message that had begun has %d connections, %v", got.Connections, got.err)
	}
	if got := <-said; !errors.Is(got.err, ErrPaused) {
		t.Fatalf("after it there is %q, %v; want a pause", got.Kind, got.err)
	}

	giver, taker := newPair(t)
	if err := giver.Send(Message{Kind: Former}, middle); err != nil {
		t.Fatal(err)
	}
	_, files, err := taker.Receive()
	if err != nil {
		t.Fatal(err)
	}
	newest, err := files[0].Line()
	if err != nil {
		t.Fatal(err)
	}
	defer newest.Close() //nolint:errcheck // nothing is written
	if m, _, err := newest.Receive(); err != nil || m.Connections != 2 {
		t.Errorf("the successor hears of %d connections, %v", m.Connections, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// TestPauseEndsSilence: a line on which nothing is said is paused, and resumed.
func TestPauseEndsSilence(t *testing.T) {
	near, far := newPair(t)
	for range 2 {
		paused := make(chan error)
		go func() {
			_, _, err := near.Receive()
			paused <- err
		}()
		near.Pause()
		if err := <-paused; !errors.Is(err, ErrPaused) {
			t.Fatalf("a paused line: %v", err)
		}
		near.Resume()
		if err := far.Send(Message{Kind: Open}); err != nil {
			t.Fatal(err)
		}
		if m, _, err := near.Receive(); err != nil || m.Kind != Open {
			t.Fatalf("after the pause: %+v, %v", m, err)
		}
	}
}

// TestPauseIsShort: a message that does not come to its end is not waited for.
func TestPauseIsShort(t *testing.T) {
	testneeds.Time(t, "it waits for the end of a pause")
	t.Parallel()
	far, near := newPair(t)
	failed := make(chan error)
	go func() {
		_, _, err := near.Receive()
		failed <- err
	}()
	begin(t, far, long(t, 1))
	near.Pause()
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a message that stops half way: %v", err)
	}
}

// TestDeafEnd: an end that does not read holds up those who send to it for a while
// only, and knows that it has missed something.
func TestDeafEnd(t *testing.T) {
	near, far := newPair(t)
	near.sendMost = 200 * time.Millisecond
	sent := make(chan error)
	for range 2 {
		go func() { sent <- near.Send(Message{Kind: Counted, Said: make([]byte, 1<<20)}) }()
	}
	for range 2 {
		if err := <-sent; err == nil {
			t.Fatal("more than a socket holds was sent to an end that does not read")
		}
	}
	if err := near.Send(Message{Kind: Open}); err == nil {
		t.Error("a message was sent right behind half of another one")
	}
	if m, _, err := far.Receive(); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		t.Errorf("the other end received %q, %v", m.Kind, err)
	}
	if err := far.Send(Message{Kind: Open}); err != nil {
		t.Errorf("the way back: %v", err)
	}
	if m, _, err := near.Receive(); err != nil || m.Kind != Open {
		t.Errorf("the way back: %q, %v", m.Kind, err)
	}
}

// long is a message of more than a socket holds.
func long(t *testing.T, connections int) []byte {
	t.Helper()
	text, err := json.Marshal(Message{Kind: Open, Connections: connections, Said: make([]byte, 4<<20)})
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
}

// begin sends the first half of a message: it returns when most of that was received.
func begin(t *testing.T, l *Line, frame []byte) (rest []byte) {
	t.Helper()
	half := len(frame) / 2
	if _, err := l.conn.Write(frame[:half]); err != nil {
		t.Fatal(err)
	}
	return frame[half:]
}
