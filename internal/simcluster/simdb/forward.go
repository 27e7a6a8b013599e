package simdb

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// dialTimeout is how long a real server behind a Forward may take to answer.
const dialTimeout = 5 * time.Second

// Forward passes the bytes to a real server at Addr, as they are. A refused
// client is hung up on.
type Forward struct {
	Addr string
}

// Serve pipes both ways, passing half-closes on.
func (f Forward) Serve(ctx context.Context, conn net.Conn, s Session) error {
	if err := s.authorize(s.DBUser, s.DBName); err != nil {
		return err
	}
	server, err := dial(ctx, f.Addr)
	if err != nil {
		return err
	}
	return pipe(ctx, conn, server)
}

// ForwardPostgres passes connections to a real PostgreSQL at Addr. As in
// Teleport, the client is told that there is no TLS inside the tunnel, and the
// server is spoken to over TLS if TLS is set.
type ForwardPostgres struct {
	Addr string
	TLS  *tls.Config // nil means plain
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
	}
	server, err := dial(ctx, f.Addr)
	if err != nil {
		return err
	}
	if f.TLS != nil {
		if server, err = postgresTLS(ctx, server, f.TLS); err != nil {
			return err
		}
	}
	if _, err := server.Write(packet); err != nil {
		return errors.Join(err, server.Close())
	}
	return pipe(ctx, conn, server)
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

// postgresTLS asks the server for TLS and does the handshake.
func postgresTLS(ctx context.Context, server net.Conn, cfg *tls.Config) (net.Conn, error) {
	ask := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, pgSSL)
	answer := make([]byte, 1)
	_, err := server.Write(ask)
	if err == nil {
		_, err = io.ReadFull(server, answer)
	}
	if err == nil && answer[0] != 'S' {
		err = errors.New("the PostgreSQL server does not speak TLS")
	}
	tc := tls.Client(server, cfg)
	if err == nil {
		err = tc.HandshakeContext(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	return tc, nil
}

func dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	server, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dial the real server: %w", err)
	}
	return server, nil
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
	// Once the server has ended there is nobody to send to.
	_ = client.SetReadDeadline(time.Now())
	return errors.Join(err, <-up, server.Close())
}
