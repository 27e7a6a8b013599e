package db

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// refuseMax is how much is read of a client that is refused. What clients say first
// is a few hundred bytes; a big HTTP cookie is 8 KiB.
const refuseMax = 64 << 10

// The tests' machine may be busier than a user's: they have these longer.
var (
	// refuseTimeout is how long a client may take to say what it must have
	// said before its protocol lets a server refuse it.
	refuseTimeout = 2 * time.Second
	// speaksFirst is how long a client may be silent before it is taken for one of
	// a protocol in which the server speaks first. Others send their first message
	// together with the connection, and it has a loopback's way to go.
	speaksFirst = 500 * time.Millisecond
)

// errGarbage says that the client speaks something else than its protocol.
var errGarbage = errors.New("it does not speak the protocol")

// refuser refuses one client. What it reads is bounded in size and time, and
// the texts of r are clean.
type refuser func(client io.ReadWriter, r Refusal) error

// RefuseUnknown is Refuse for a client of a database whose protocol is not
// known yet, as before the first login. It takes the protocol from what the
// client says first, or from its silence; a client that fits none gets no
// answer. It promises what Refuse does.
func RefuseUnknown(conn net.Conn, r Refusal) error {
	if err := refuseGuessed(conn, r.clean()); err != nil {
		return fmt.Errorf("refuse a client: %w", err)
	}
	return nil
}

func refuseGuessed(conn net.Conn, r Refusal) error {
	in := bufio.NewReader(io.LimitReader(conn, refuseMax))
	if err := conn.SetDeadline(time.Now().Add(speaksFirst)); err != nil {
		return err
	}
	_, err := in.Peek(1)
	if silent := errors.Is(err, os.ErrDeadlineExceeded); err != nil && !silent {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(refuseTimeout - speaksFirst)); err != nil {
		return err
	}
	first, err := in.Peek(in.Buffered()) // what came at once: refuse reads it again
	if err != nil {
		return err
	}
	p, known := guess(first)
	if !known {
		return fmt.Errorf("%w that berth knows: %d bytes", errGarbage, len(first))
	}
	return p.refuse(struct {
		io.Reader
		io.Writer
	}{in, conn}, r)
}

// guess returns a protocol of the family to which a client's first bytes belong.
func guess(first []byte) (Protocol, bool) {
	return find(func(p Protocol) bool { return p.guess != nil && p.guess(first) })
}
