package db

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgproto3"
)

// What a Postgres client may say first, each after a length of four bytes.
// Source: PostgreSQL documentation, "Message Formats" and "Message Flow".
// pgproto3 reads these as well, but only from clients of versions it knows.
const (
	pgCancel     = 80877102
	pgSSL        = 80877103
	pgGSSENC     = 80877104
	pgMajor      = 3      // upper half of the version in a StartupMessage
	pgStartupMax = 10_000 // MAX_STARTUP_PACKET_LENGTH in PostgreSQL's pqcomm.h
)

// refusePostgres declines encryption as often as it is asked for, and answers
// the startup message with a fatal error.
func refusePostgres(client io.ReadWriter, r Refusal) error {
	for {
		var head [8]byte
		if _, err := io.ReadFull(client, head[:]); err != nil {
			return err
		}
		size, code := binary.BigEndian.Uint32(head[:]), binary.BigEndian.Uint32(head[4:])
		switch {
		case size == 8 && (code == pgSSL || code == pgGSSENC):
			if _, err := client.Write([]byte{'N'}); err != nil {
				return err
			}
		case code == pgCancel:
			return nil // never answered, by any server
		case code>>16 == pgMajor && size >= 8 && size <= pgStartupMax:
			if _, err := io.CopyN(io.Discard, client, int64(size)-8); err != nil {
				return err
			}
			return pgFatal(client, r)
		default:
			return fmt.Errorf("%w: a message %#x of %d bytes", errGarbage, code, size)
		}
	}
}

func pgFatal(w io.Writer, r Refusal) error {
	msg := pgproto3.ErrorResponse{
		Severity:            "FATAL",
		SeverityUnlocalized: "FATAL",
		Code:                sqlState(r.Kind),
		Message:             r.Title,
		Detail:              r.Text,
		Hint:                r.Hint,
	}
	b, err := msg.Encode(nil)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// sqlState returns the SQLSTATE of a refusal. Source: PostgreSQL
// documentation, "PostgreSQL Error Codes". After cannot_connect_now libpq
// tries the next address it has, and pg_isready says "rejecting connections".
func sqlState(kind RefusalKind) string {
	switch kind {
	case RefusalDenied, RefusalMFA:
		return "28000" // invalid_authorization_specification
	case RefusalUnknown:
		return "3D000" // invalid_catalog_name
	case RefusalHoldEnded:
		// Not cannot_connect_now: a client that was told "localhost" would
		// try the tunnel's other address, and be held a second time.
		return "08004" // sqlserver_rejected_establishment_of_sqlconnection
	default:
		return "57P03" // cannot_connect_now
	}
}
