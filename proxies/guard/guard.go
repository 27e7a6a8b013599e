// Package guard reports whether the program at the other end of a loopback
// connection belongs to the OS user that this process runs as.
//
// A port on 127.0.0.1 is open to every user of the machine. What a tunnel
// leads to is not: its cert is one person's. The guard asks the system who
// holds the client's socket, at the moment the connection is accepted.
//
// It promises to reject clients that belong to another user, and clients that
// the system does not know, such as those that have hung up already. Its limits: it
// stops root only by accident, because root can become any user; and a program
// that hands its open connection to another user's program has handed over the
// tunnel.
//
// On Linux one question costs some microseconds, whatever the number of
// sockets; on Windows and macOS the system hands out the list of all sockets.
// On systems without such a question supported is false, and every client is
// let through.
package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// ErrUnknown means that the system does not know the client's socket, as
// happens when it is closed already.
var ErrUnknown = errors.New("the system does not say who the client is")

// ForeignError says that a client belongs to another user of the machine.
type ForeignError struct {
	UID string // numeric; on Windows the user's SID
	PID int    // 0 when the system does not disclose it
}

// Error names the user.
func (e *ForeignError) Error() string {
	if e.PID != 0 {
		return fmt.Sprintf("the client belongs to another user (%s, pid %d)", e.UID, e.PID)
	}
	return fmt.Sprintf("the client belongs to another user (uid %s)", e.UID)
}

// Guard answers for one process. It is safe for concurrent use; the zero value
// is ready.
type Guard struct{ system }

// Check returns nil when the client of an accepted connection belongs to this
// process's user, a [*ForeignError] when it belongs to another, and ErrUnknown
// or the system's error when that cannot be found out.
func (g *Guard) Check(conn net.Conn) error {
	client, err := tcpAddr(conn.RemoteAddr())
	if err != nil {
		return err
	}
	server, err := tcpAddr(conn.LocalAddr())
	if err != nil {
		return err
	}
	return g.check(client, server)
}

// Try asks about a client of this process's own. It fails where the system does not say
// who a client is, as in some containers.
func (g *Guard) Try(ctx context.Context) error {
	if !supported {
		return errors.ErrUnsupported
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close() //nolint:errcheck // nothing to be done about it
	client, err := (&net.Dialer{}).DialContext(ctx, "tcp", ln.Addr().String())
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // nothing to be done about it
	accepted, err := ln.Accept()
	if err != nil {
		return err
	}
	defer accepted.Close() //nolint:errcheck // nothing to be done about it
	return g.Check(accepted)
}

func tcpAddr(a net.Addr) (netip.AddrPort, error) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%w: %v is no TCP address", ErrUnknown, a)
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()), nil
}
