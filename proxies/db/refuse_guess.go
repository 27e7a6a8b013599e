package db

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// speaksFirst is how long a client may be silent before it is taken for one of
// a protocol in which the server speaks first. Others send their first message
// together with the connection, and it has a loopback's way to go.
const speaksFirst = 500 * time.Millisecond

// RefuseUnknown is Refuse for a client of a database whose protocol has not
// been learned yet, as before the first login: what the client says first tells
// it, or that it says nothing. It promises what Refuse does; a client that
// speaks nothing known is told nothing.
func RefuseUnknown(conn net.Conn, r Refusal) error {
	if err := refuseGuessed(conn, r.clean()); err != nil {
		return fmt.Errorf("tell a client that it is refused: %w", err)
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
	first, err := in.Peek(in.Buffered())
	if err != nil {
		return err
	}
	refuse := refusers[guess(first)]
	if refuse == nil {
		return fmt.Errorf("%w that berth knows: %d bytes", errGarbage, len(first))
	}
	return refuse(struct {
		io.Reader
		io.Writer
	}{in, conn}, r)
}

// guess names a protocol of the family to which a client's first bytes belong;
// empty when they belong to none.
func guess(first []byte) string {
	switch {
	case len(first) == 0:
		return "mysql"
	case isMongoDB(first):
		return "mongodb"
	case len(first) >= 2 && first[0] == 0 && first[1] == 0: // a length, in four bytes
		return "postgres"
	case len(first) >= 2 && first[0] == chHello: // and the client's name, with its length before it
		return "clickhouse"
	case first[0] == '*':
		return "redis"
	case first[0] == tdsPrelogin || first[0] == tdsLogin7:
		return "sqlserver"
	case len(first) >= cqlHead && cqlOpens([cqlHead]byte(first)):
		return "cassandra"
	case isHTTP(first):
		return "elasticsearch" // the page that says most to whoever reads it
	default:
		return ""
	}
}

// isMongoDB knows a message by its code: its length, which comes first, may be
// anything.
func isMongoDB(first []byte) bool {
	if len(first) < mongoHead {
		return false
	}
	size, code := binary.LittleEndian.Uint32(first), binary.LittleEndian.Uint32(first[12:])
	return (code == mongoQuery || code == mongoMsg) && size >= mongoHead && size <= refuseMax
}

var httpMethods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

func isHTTP(first []byte) bool {
	method, _, found := strings.Cut(string(first[:min(len(first), len(http.MethodOptions)+1)]), " ")
	return found && slices.Contains(httpMethods, method)
}
