package db_test

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/microsoft/go-mssqldb"

	"berth/proxies"
	"berth/proxies/db"
)

// tdsMessage reads a message of TDS: of packets that arrive as they like.
func tdsMessage(r io.Reader) (kind byte, body []byte, err error) {
	for {
		head := make([]byte, 8)
		if _, err := io.ReadFull(r, head); err != nil {
			return 0, nil, err
		}
		part := make([]byte, int(binary.BigEndian.Uint16(head[2:]))-8)
		if _, err := io.ReadFull(r, part); err != nil {
			return 0, nil, err
		}
		kind, body = head[0], append(body, part...)
		if head[1]&1 != 0 {
			return kind, body, nil
		}
	}
}

func tdsSay(w io.Writer, body []byte) {
	for first := true; first || len(body) > 0; first = false {
		part := body[:min(len(body), 4096-8)]
		body = body[len(part):]
		last := byte(0)
		if len(body) == 0 {
			last = 1
		}
		head := []byte{4, last, 0, 0, 0, 0, 1, 0}
		binary.BigEndian.PutUint16(head[2:], uint16(len(part)+8))
		_, _ = w.Write(append(head, part...))
	}
}

// tdsServer is a SQL Server that encrypts nothing, as Teleport's database service,
// takes every login, and answers every batch with its length: nothing if it asks for
// no rows.
func tdsServer(seen *atomic.Int64) func(net.Conn) {
	return func(conn net.Conn) {
		for {
			kind, body, err := tdsMessage(conn)
			switch {
			case err != nil:
				return
			case kind == 0x12: // PRELOGIN
				for table := body; table[0] != 0xff; table = table[5:] {
					if table[0] == 1 {
						seen.Store(int64(body[binary.BigEndian.Uint16(table[1:])]))
					}
				}
				tdsSay(conn, []byte{0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff, 16, 0, 0, 0, 0, 0, 2})
			case kind == 0x10: // LOGIN7
				name := []byte("\x02x\x00y\x00")
				ack := append([]byte{1, 0x74, 0, 0, 4}, name...)
				ack = append(ack, 16, 0, 0, 0)
				token := append([]byte{0xad, byte(len(ack)), 0}, ack...)
				tdsSay(conn, append(token, append([]byte{0xfd}, make([]byte, 12)...)...))
			case kind == 6: // attention: the driver has what it wants
				tdsSay(conn, append([]byte{0xfd, 0x20, 0, 0, 0}, make([]byte, 8)...))
			case kind == 1 && !bytes.Contains(bytes.ReplaceAll(body, []byte{0}, nil), []byte("select")): // settings of the driver's own
				tdsSay(conn, append([]byte{0xfd, 0, 0, 0, 0}, make([]byte, 8)...))
			case kind == 1: // a batch
				text := []byte{0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0x26, 4, 1, 'n', 0, 0xd1, 4}
				text = binary.LittleEndian.AppendUint32(text, uint32(len(body)))
				text = append(text, 0xfd, 0x10, 0, 0xc1, 0)
				tdsSay(conn, binary.LittleEndian.AppendUint64(text, 1))
			}
		}
	}
}

func TestSQLServerClients(t *testing.T) {
	var seen atomic.Int64
	f := front(t, "sqlserver", serving(t, tdsServer(&seen)))
	open := func(f *fronted, query string) *sql.DB {
		pool, err := sql.Open("sqlserver", fmt.Sprintf("sqlserver://bob:unused@%s?%s", net.JoinHostPort(f.host, f.port), query))
		if err != nil {
			t.Fatal(err)
		}
		return pool
	}
	trusted, app := "&certificate="+f.ca, "&app+name="+strings.Repeat("long", 1000) // a login of several packets
	for _, query := range []string{
		"encrypt=disable", "encrypt=false", "encrypt=true" + trusted, "encrypt=true" + trusted + app,
		"encrypt=true&TrustServerCertificate=true", "encrypt=strict" + trusted,
	} {
		pool := open(f, query)
		var n int
		for _, text := range []string{"select 1", strings.Repeat("select 1 -- ", 5000)} {
			want := 2*len(text) + 22 // headers of 22 bytes
			if err := pool.QueryRowContext(t.Context(), text).Scan(&n); err != nil || n != want {
				t.Errorf("%s: the server heard %d bytes, want %d: %v", query, n, want, err)
			}
		}
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
		if e := f.ended(t); e.Err != nil {
			t.Errorf("%s: ended with %v", query, e.Err)
		}
		asked := int64(2)
		if strings.HasPrefix(query, "encrypt=false") {
			asked = 0
		}
		if seen.Load() != asked && !strings.HasPrefix(query, "encrypt=strict") {
			t.Errorf("%s: the server was asked for encryption %d, want %d", query, seen.Load(), asked)
		}
	}
	pool := open(f, "encrypt=true")
	defer pool.Close()
	if err := pool.PingContext(t.Context()); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a client that does not know the CA got %v", err)
	}
	if e := f.ended(t); e.Err == nil || !strings.Contains(e.Err.Error(), "TLS handshake") {
		t.Errorf("it ended with %v", e.Err)
	}
}

// TestSQLServerRefused: a client with TLS is refused inside it.
func TestSQLServerRefused(t *testing.T) {
	t.Parallel()
	for _, known := range []string{"sqlserver", ""} {
		f := front(t, "sqlserver", held, func(cfg *proxies.Config, fc *db.FrontConfig) {
			cfg.Hold = 2 * time.Second // its first words must have come by then
			fc.Protocol = func() string { return known }
			if known == "" {
				cfg.Refuse = func(client net.Conn, _ error) {
					_ = db.RefuseUnknown(client, db.Refusal{Title: "tunnel x: login needed"})
				}
			}
		})
		for _, query := range []string{"encrypt=false", "encrypt=true&certificate=" + f.ca, "encrypt=strict&certificate=" + f.ca, "encrypt=disable"} {
			pool, err := sql.Open("sqlserver", fmt.Sprintf("sqlserver://bob:unused@%s?%s", net.JoinHostPort(f.host, f.port), query))
			if err != nil {
				t.Fatal(err)
			}
			if err := pool.PingContext(t.Context()); err == nil || !strings.Contains(err.Error(), "tunnel x: login needed") {
				t.Errorf("%s, protocol %q: the client got %v", query, known, err)
			}
			pool.Close()
		}
	}
}

// TestSQLServerPreloginInPieces has the server's answer, and the client's words,
// arrive byte by byte.
func TestSQLServerPreloginInPieces(t *testing.T) {
	var seen atomic.Int64
	f := front(t, "sqlserver", serving(t, tdsServer(&seen)))
	conn := dial(t, f)
	prelogin := []byte{0x12, 1, 0, 26, 0, 0, 0, 0, 0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff, 9, 0, 0, 0, 0, 0, 2}
	for i := range prelogin {
		if _, err := conn.Write(prelogin[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	kind, body, err := tdsMessage(conn)
	if err != nil || kind != 4 || !bytes.HasSuffix(body, []byte{2}) || seen.Load() != 2 {
		t.Errorf("a client that cannot encrypt hears %#x % x, %v", kind, body, err)
	}
}
