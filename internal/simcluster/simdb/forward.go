package simdb

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// A Dialer connects to the real server behind a database service. That server
// lets in whoever comes: the service has checked who the client is.
type Dialer func(ctx context.Context) (net.Conn, error)

// Forward passes the bytes to a real server as they are. A refused client is
// hung up on.
type Forward struct {
	Dial Dialer
}

// Serve pipes both ways, passing half-closes on.
func (f Forward) Serve(ctx context.Context, conn net.Conn, s Session) error {
	if err := s.authorize(s.DBUser, s.DBName); err != nil {
		return err
	}
	server, err := f.Dial(ctx)
	if err != nil {
		return err
	}
	return pipe(ctx, conn, server)
}

// ForwardPostgres passes connections to a real PostgreSQL. As in Teleport, the
// client learns that there is no TLS inside the tunnel. The server learns what
// the client cert says as settings: teleport.serial and so on.
type ForwardPostgres struct {
	Dial Dialer
}

// PostgreSQL's codes for the packets that may come before a start-up.
const (
	pgCancel  = 80877102
	pgSSL     = 80877103
	pgGSS     = 80877104
	pgMaxPack = 10000 // what PostgreSQL allows a start-up packet
)

// Serve answers the client's question for TLS and pipes the rest.
func (f ForwardPostgres) Serve(ctx context.Context, conn net.Conn, s Session) error {
	defer closeOnDone(ctx, conn)()
	packet, err := startupPacket(conn)
	if err != nil {
		return err
	}
	if binary.BigEndian.Uint32(packet[4:]) != pgCancel {
		params := startupParams(packet[8:])
		if err := s.authorize(params["user"], params["database"]); err != nil {
			return errors.Join(err, refusePostgres(conn, err))
		}
		packet = withSettings(packet, s)
	}
	server, err := f.Dial(ctx)
	if err != nil {
		return errors.Join(err, refusePostgres(conn, err))
	}
	if _, err := server.Write(packet); err != nil {
		return errors.Join(err, server.Close())
	}
	return pipe(ctx, conn, server)
}

// withSettings adds what the session says of itself to a start-up packet.
func withSettings(packet []byte, s Session) []byte {
	if len(packet) < 9 || packet[len(packet)-1] != 0 {
		return packet // the server will say what is wrong with it
	}
	packet = packet[:len(packet)-1] // a zero ends the list
	for _, kv := range s.identity() {
		packet = fmt.Appendf(packet, "teleport.%s\x00%s\x00", kv[0], kv[1])
	}
	packet = append(packet, 0)
	binary.BigEndian.PutUint32(packet, uint32(len(packet)))
	return packet
}

// startupPacket reads the client's start-up or cancel packet, after saying no
// to encryption as often as it is asked for.
func startupPacket(conn net.Conn) ([]byte, error) {
	for {
		head := make([]byte, 8)
		if _, err := io.ReadFull(conn, head); err != nil {
			return nil, err
		}
		size, code := binary.BigEndian.Uint32(head), binary.BigEndian.Uint32(head[4:])
		if size < 8 || size > pgMaxPack {
			return nil, fmt.Errorf("PostgreSQL start-up packet of %d bytes", size)
		}
		packet := append(head, make([]byte, size-8)...)
		if _, err := io.ReadFull(conn, packet[8:]); err != nil {
			return nil, err
		}
		if code != pgSSL && code != pgGSS {
			return packet, nil
		}
		if _, err := conn.Write([]byte{'N'}); err != nil {
			return nil, err
		}
	}
}

// startupParams parses the zero-terminated names and values of a start-up.
func startupParams(b []byte) map[string]string {
	params := make(map[string]string)
	var fields []string
	start := 0
	for i, c := range b {
		if c == 0 {
			fields = append(fields, string(b[start:i]))
			start = i + 1
		}
	}
	for i := 0; i+1 < len(fields) && fields[i] != ""; i += 2 {
		params[fields[i]] = fields[i+1]
	}
	if params["database"] == "" {
		params["database"] = params["user"]
	}
	return params
}

// ForwardMySQL passes connections to a real MySQL or MariaDB. As in Teleport,
// there is no TLS inside the tunnel, and no password is of use.
type ForwardMySQL struct {
	Dial Dialer
}

// Version returns what the real server greets with.
func (f ForwardMySQL) Version(ctx context.Context) (string, error) {
	server, err := f.Dial(ctx)
	if err != nil {
		return "", err
	}
	defer closeOnDone(ctx, server)()
	greeting, err := readPacket(server)
	if err = errors.Join(err, server.Close()); err != nil {
		return "", err
	}
	version, _, ok := strings.Cut(string(greeting[4:]), "\x00")
	if version, greets := strings.CutPrefix(version, string(rune(myProtocol))); ok && greets {
		return version, nil
	}
	return "", errors.New("the MySQL server does not greet")
}

// Serve reads along until the client has said who it is, and pipes the rest.
func (f ForwardMySQL) Serve(ctx context.Context, conn net.Conn, s Session) error {
	defer closeOnDone(ctx, conn)()
	server, err := f.Dial(ctx)
	if err != nil {
		return errors.Join(err, newMyWire(conn).refuse(err))
	}
	defer closeOnDone(ctx, server)()
	login, err := forwardLogin(conn, server, s)
	if err == nil {
		_, err = server.Write(login)
	}
	if err != nil {
		return errors.Join(err, server.Close())
	}
	return pipe(ctx, conn, server)
}

// forwardLogin passes the server's greeting on, and returns the client's answer
// to it if the client may log in.
func forwardLogin(conn, server net.Conn, s Session) ([]byte, error) {
	greeting, err := readPacket(server)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(plainGreeting(greeting, s.ServerVersion)); err != nil {
		return nil, err
	}
	login, err := readPacket(conn)
	if err != nil {
		return nil, err
	}
	user, db, password, err := parseLogin(login[4:])
	if err != nil {
		return nil, err
	}
	err = s.authorize(user, db)
	if password {
		err = errPassword
	}
	if err != nil {
		wire := newMyWire(conn)
		wire.seq = login[3] + 1
		return nil, errors.Join(err, wire.refuse(err))
	}
	return login, nil
}

// plainGreeting returns the packet of a server's greeting without its offers to
// encrypt and to compress, and with another version.
func plainGreeting(packet []byte, version string) []byte {
	const offersTLS, compresses, compressesZstd = 1 << 11, 1 << 5, 1 << 26
	body := packet[4:]
	end := bytes.IndexByte(body, 0)
	// After the version come a zero, the connection's number, the salt, another
	// zero, and the capabilities in two halves around character set and status.
	const capsLow, capsHigh = 1 + 4 + 8 + 1, 1 + 4 + 8 + 1 + 2 + 3
	if end < 0 || body[0] != myProtocol || len(body) < end+capsHigh+2 {
		return packet // an error, perhaps: the client will know
	}
	rest := bytes.Clone(body[end:])
	low, high := rest[capsLow:], rest[capsHigh:]
	binary.LittleEndian.PutUint16(low, binary.LittleEndian.Uint16(low)&^(offersTLS|compresses))
	binary.LittleEndian.PutUint16(high, binary.LittleEndian.Uint16(high)&^(compressesZstd>>16))
	plain := append([]byte{0, 0, 0, packet[3], body[0]}, version...)
	plain = append(plain, rest...)
	n := len(plain) - 4
	plain[0], plain[1], plain[2] = byte(n), byte(n>>8), byte(n>>16)
	return plain
}

// pipe copies both ways until both have ended, and closes the server's end.
func pipe(ctx context.Context, client, server net.Conn) error {
	defer closeOnDone(ctx, client)()
	defer closeOnDone(ctx, server)()
	up := make(chan error, 1)
	go func() {
		_, err := io.Copy(server, client)
		up <- errors.Join(err, closeWrite(server))
	}()
	_, err := io.Copy(client, server)
	err = errors.Join(err, closeWrite(client))
	// Once the server has ended there is no one to send to.
	_ = client.SetReadDeadline(time.Now())
	return errors.Join(err, <-up, server.Close())
}
