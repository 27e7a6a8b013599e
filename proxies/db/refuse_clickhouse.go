package db

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// Packets of ClickHouse's native protocol. Source: ClickHouse documentation,
// "Native protocol", client and server packets.
const (
	chHello     = 0
	chException = 2
)

// refuseClickHouse answers the client's hello with an exception. A client that
// speaks HTTP to this port gets its answer too: one database has both.
func refuseClickHouse(client io.ReadWriter, r Refusal) error {
	in := bufio.NewReader(client)
	first, err := in.Peek(1)
	if err != nil {
		return err
	}
	switch c := first[0]; {
	case c == chHello: // what else it says does not matter
		_, err := client.Write(clickHouseException(r))
		return err
	case 'A' <= c && c <= 'Z':
		return answerHTTP(client, in, clickHousePage(r))
	}
	return fmt.Errorf("%w: a packet %#x", errGarbage, first[0])
}

func clickHouseException(r Refusal) []byte {
	text := func(b []byte, s string) []byte {
		return append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	code, name := clickHouseCode(r.Kind)
	b := binary.LittleEndian.AppendUint32([]byte{chException}, uint32(code))
	b = text(b, "DB::Exception")
	b = text(b, fmt.Sprintf("DB::Exception: %s (%s)", r.wholeLine(), name))
	b = text(b, "")     // stack trace
	return append(b, 0) // no nested exception
}

// clickHouseCode returns the error of a refusal. Source: ErrorCodes.cpp of
// ClickHouse. AUTHENTICATION_FAILED is not among them: its client would ask
// for a password.
func clickHouseCode(kind RefusalKind) (int, string) {
	switch kind {
	case RefusalDenied, RefusalMFA:
		return 497, "ACCESS_DENIED"
	case RefusalUnknown:
		return 81, "UNKNOWN_DATABASE"
	default:
		return 210, "NETWORK_ERROR"
	}
}
