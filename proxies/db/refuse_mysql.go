package db

import (
	"encoding/binary"
	"io"
)

// mysqlTextMax is what clients keep of a message: MYSQL_ERRMSG_SIZE of the C
// libraries' headers, without its final NUL.
const mysqlTextMax = 511

// refuseMySQL sends an ERR packet where the server's greeting would be, as
// servers do that have too many connections. Source: MySQL source
// documentation, "Connection Phase" and "ERR_Packet".
func refuseMySQL(client io.ReadWriter, r Refusal) error {
	// No capability is agreed on yet, so there is no SQLSTATE. Clients that
	// look for one take a "#" for its beginning, and PyMySQL before 1.1 drops
	// six bytes without looking: they are best the name of who speaks.
	const who = "berth: "
	text := who + r.line(mysqlTextMax-len(who))
	size := 3 + len(text)
	packet := []byte{byte(size), byte(size >> 8), byte(size >> 16), 0} // length, sequence number
	packet = append(packet, 0xff)
	packet = binary.LittleEndian.AppendUint16(packet, mysqlCode(r.Kind))
	packet = append(packet, text...)
	_, err := client.Write(packet)
	return err
}

// mysqlCode returns the error number of a refusal, one that MySQL and MariaDB
// both have. Source: MySQL and MariaDB error references.
func mysqlCode(kind RefusalKind) uint16 {
	switch kind {
	case RefusalDenied, RefusalMFA:
		return 1045 // ER_ACCESS_DENIED_ERROR
	case RefusalUnknown:
		return 1049 // ER_BAD_DB_ERROR
	default:
		return 3032 // ER_SERVER_OFFLINE_MODE
	}
}
