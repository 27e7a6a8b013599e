package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"berth/internal/simcluster/simdb"
)

// What a client asks of the backend, with its first byte.
const (
	cmdDown  = 'd' // send without end, as fast as it goes
	cmdPaced = 'p' // the same at a rate: MB/s in the next two bytes
	cmdUp    = 'u' // take without end
	cmdEcho  = 'e' // send back what comes
	cmdWho   = 'w' // say the serial of the client's cert and a newline, then echo
)

// chunk is how much is written at once: what PostgreSQL and its clients write,
// and so what comes in one piece through Teleport.
const chunk = 8 << 10

// bulk is the database of every tunnel.
type bulk struct {
	received atomic.Int64 // by cmdUp, on all connections
}

// Serve does what the client asks until it leaves.
func (b *bulk) Serve(ctx context.Context, conn net.Conn, s simdb.Session) error {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // cut on purpose
	var cmd [1]byte
	if _, err := io.ReadFull(conn, cmd[:]); err != nil {
		return err
	}
	switch cmd[0] {
	case cmdDown:
		return send(conn, 0)
	case cmdPaced:
		var rate [2]byte
		if _, err := io.ReadFull(conn, rate[:]); err != nil {
			return err
		}
		return b.sendPaced(ctx, conn, int(binary.BigEndian.Uint16(rate[:])))
	case cmdUp:
		return b.take(conn)
	case cmdWho:
		if _, err := fmt.Fprintln(conn, s.Serial); err != nil {
			return err
		}
		fallthrough
	case cmdEcho:
		return echo(conn)
	default:
		return fmt.Errorf("unknown command %q", cmd[0])
	}
}

// send writes n bytes, or without end when n is 0.
func send(conn io.Writer, n int) error {
	buf := make([]byte, chunk)
	for left := n; n == 0 || left > 0; left -= chunk {
		if _, err := conn.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

// sendPaced sends at so many MB/s; after each pause it catches up.
func (b *bulk) sendPaced(ctx context.Context, conn io.Writer, rate int) error {
	began, sent := time.Now(), 0
	for {
		due := int(time.Since(began).Seconds()*float64(rate)*1e6) - sent
		if due < chunk {
			if err := pause(ctx, time.Millisecond); err != nil {
				return err
			}
			continue
		}
		due -= due % chunk
		if err := send(conn, due); err != nil {
			return err
		}
		sent += due
	}
}

func (b *bulk) take(conn io.Reader) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		b.received.Add(int64(n))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// echo has a small buffer: there may be ten thousand of it.
func echo(conn io.ReadWriter) error {
	buf := make([]byte, 64)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return err
		}
	}
}

// ask opens a connection and gives the backend a command.
func ask(ctx context.Context, w way, cmd ...byte) (net.Conn, error) {
	conn, err := w.dial(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(cmd); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// roundTrip sends one byte over a connection that echoes, and takes it back.
func roundTrip(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(startWait)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{'.'}); err != nil {
		return err
	}
	var got [1]byte
	if _, err := io.ReadFull(conn, got[:]); err != nil {
		return err
	}
	if got[0] != '.' {
		return fmt.Errorf("sent %q and got %q back", '.', got[0])
	}
	return nil
}

// visit connects, has one byte echoed, and leaves.
func visit(ctx context.Context, w way) error {
	conn, err := ask(ctx, w, cmdEcho)
	if err != nil {
		return err
	}
	return errors.Join(roundTrip(conn), conn.Close())
}

// servedBy connects and asks for the serial of the cert it was served with.
// The connection goes on as an echo.
func servedBy(ctx context.Context, w way) (net.Conn, string, error) {
	conn, err := ask(ctx, w, cmdWho)
	if err != nil {
		return nil, "", err
	}
	if err := conn.SetDeadline(time.Now().Add(startWait)); err != nil {
		return nil, "", errors.Join(err, conn.Close())
	}
	var line strings.Builder
	var c [1]byte
	for c[0] != '\n' {
		if _, err := io.ReadFull(conn, c[:]); err != nil {
			return nil, "", errors.Join(err, conn.Close())
		}
		line.WriteByte(c[0])
	}
	return conn, strings.TrimSpace(line.String()), nil
}
