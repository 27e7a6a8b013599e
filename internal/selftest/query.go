package selftest

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"berth/agent/state"
)

// queries speak as much of each protocol as shows that a server answers.
var queries = map[string]func(io.ReadWriter, state.Tunnel) error{
	"postgres": queryPostgres,
	"mysql":    greetMySQL,
	"redis":    pingRedis,
}

// tryQueries connects to each tunnel as a client does.
func (r *run) tryQueries(ctx context.Context) verdict {
	s, err := r.client.Snapshot(ctx)
	if err != nil {
		return failed(err, "")
	}
	var answered []string
	for _, t := range s.Tunnels {
		query := queries[t.Protocol]
		if query == nil {
			return failed(fmt.Errorf("the self-test does not speak %q", t.Protocol), "")
		}
		if err := r.query(ctx, t, query); err != nil {
			return failed(fmt.Errorf("tunnel %s: %w", t.Name, err), "see whether a local firewall or proxy is in the way of 127.0.0.1")
		}
		answered = append(answered, t.Protocol)
	}
	slices.Sort(answered)
	return ok("through the tunnels a server answered: %s", strings.Join(answered, ", "))
}

func (r *run) query(ctx context.Context, t state.Tunnel, query func(io.ReadWriter, state.Tunnel) error) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.Address)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // a server that is silent
	err = query(conn, t)
	return errors.Join(err, conn.Close())
}

// maxMessage bounds a message of Postgres's: the answer to "select 1" is small.
const maxMessage = 64 << 10

// queryPostgres logs in without a password, and asks for a row.
func queryPostgres(conn io.ReadWriter, t state.Tunnel) error {
	startup := binary.BigEndian.AppendUint32(nil, 3<<16) // protocol 3.0
	for _, word := range []string{"user", t.DBUser, "database", t.DBName, ""} {
		startup = append(append(startup, word...), 0)
	}
	if err := writeSized(conn, nil, startup); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	if _, err := untilReady(in); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	if err := writeSized(conn, []byte{'Q'}, []byte("select 1\x00")); err != nil {
		return err
	}
	rows, err := untilReady(in)
	if err == nil && rows != 1 {
		err = fmt.Errorf("%d rows instead of 1", rows)
	}
	if err != nil {
		return fmt.Errorf("select 1: %w", err)
	}
	return nil
}

// writeSized writes a message with its length in front.
func writeSized(w io.Writer, kind, body []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(kind, uint32(len(body)+4)), body...))
	return err
}

// untilReady reads messages until the server waits for the next query, and counts
// the rows among them.
func untilReady(in *bufio.Reader) (rows int, err error) {
	for {
		var head [5]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return rows, err
		}
		size := binary.BigEndian.Uint32(head[1:])
		if size < 4 || size > maxMessage {
			return rows, fmt.Errorf("a message of %d bytes", size)
		}
		body := make([]byte, size-4)
		if _, err := io.ReadFull(in, body); err != nil {
			return rows, err
		}
		switch head[0] {
		case 'Z':
			return rows, nil
		case 'D':
			rows++
		case 'E':
			return rows, fmt.Errorf("the server says %q", strings.ReplaceAll(string(body), "\x00", " "))
		}
	}
}

// greetMySQL reads the greeting that every server begins with.
func greetMySQL(conn io.ReadWriter, _ state.Tunnel) error {
	var head [5]byte // length, number, protocol
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return fmt.Errorf("read the greeting: %w", err)
	}
	if head[4] != 10 {
		return fmt.Errorf("the greeting is of protocol %d, and not 10", head[4])
	}
	return nil
}

func pingRedis(conn io.ReadWriter, _ state.Tunnel) error {
	if _, err := io.WriteString(conn, "*1\r\n$4\r\nPING\r\n"); err != nil {
		return err
	}
	const want = "+PONG\r\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil {
		return fmt.Errorf("PING: %w", err)
	}
	if string(got) != want {
		return fmt.Errorf("PING gave %q", got)
	}
	return nil
}
