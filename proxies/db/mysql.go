package db

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

var mysql = Protocol{
	Name:        "mysql",
	Title:       "MySQL",
	ALPN:        "teleport-mysql",
	Native:      true,
	serverFirst: true,
	guess:       isSilent,
	refuse:      refuseMySQL,
	client:      mysqlClient("mysql", "sslMode", "DISABLED"),
}

// mariadb is what people call a resource whose protocol is mysql.
var mariadb = Protocol{
	Name:        "mariadb",
	Title:       "MariaDB",
	ALPN:        "teleport-mysql",
	Native:      true,
	serverFirst: true,
	refuse:      refuseMySQL,
	client:      mysqlClient("mariadb", "sslMode", "disable"),
}

// mysqlClient makes the client of MySQL or MariaDB; their JDBC drivers differ.
func mysqlClient(jdbc, tlsKey, tlsOff string) client {
	toURL := func(e Endpoint) string { return makeURL("mysql", e.DBUser, e, e.DBName) }
	return client{
		text: map[Format]func(Endpoint) string{
			URL: toURL,
			JDBC: func(e Endpoint) string {
				return jdbcURL(jdbc, e, e.DBName, "user", e.DBUser, tlsKey, tlsOff)
			},
			DSN: func(e Endpoint) string {
				user := ""
				if e.DBUser != "" {
					user = e.DBUser + "@"
				}
				return user + "tcp(" + e.addr() + ")/" + escapePath(e.DBName)
			},
			MyCnf: myCnf,
		},
		// No variable names the user: its clients take it from the option
		// file or the command line.
		env: func(e Endpoint) []string {
			return nonEmpty("MYSQL_HOST", e.Host, "MYSQL_TCP_PORT", e.port(), "DATABASE_URL", toURL(e))
		},
		command: func(e Endpoint) []string {
			argv := []string{"mysql", "--protocol=TCP", "-h", e.Host, "-P", e.port()}
			argv = args(argv, "-u", e.DBUser)
			if e.DBName != "" {
				argv = append(argv, "--database="+e.DBName)
			}
			return argv
		},
		refuse: func(e Endpoint, f Format) error {
			if f == DSN && strings.Contains(e.DBUser, ":") {
				return fmt.Errorf("a DSN cannot hold the user %q: a colon would begin a password", e.DBUser)
			}
			return nil
		},
	}
}

// myCnf writes option file sections. The database stands apart, since not all
// clients that read [client] know it.
func myCnf(e Endpoint) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[client]\nprotocol=TCP\nhost=%s\nport=%d", e.Host, e.Port)
	if e.DBUser != "" {
		fmt.Fprintf(&b, "\nuser=%s", optionQuote(e.DBUser))
	}
	if e.DBName != "" {
		fmt.Fprintf(&b, "\n\n[mysql]\ndatabase=%s", optionQuote(e.DBName))
	}
	return b.String()
}

// optionQuote quotes a value of a MySQL option file: "#" would begin a comment.
func optionQuote(s string) string {
	return `"` + strings.ReplaceAll(s, `\`, `\\`) + `"`
}

// mysqlTextMax is what clients keep of a message: MYSQL_ERRMSG_SIZE of the C
// libraries' headers, without its final NUL.
const mysqlTextMax = 511

// refuseMySQL sends an ERR packet where the server's greeting would be, as
// servers do that have too many connections. Source: MySQL source
// documentation, "Connection Phase" and "ERR_Packet".
func refuseMySQL(client io.ReadWriter, r Refusal) error {
	// No capability is agreed on yet, so there is no SQLSTATE. Clients that
	// look for one take a "#" for its beginning, and PyMySQL before 1.1 drops
	// six bytes without looking: berth's name is the best text to lose.
	const sender = "berth: "
	text := sender + r.line(mysqlTextMax-len(sender))
	size := 3 + len(text)
	packet := []byte{byte(size), byte(size >> 8), byte(size >> 16), 0} // length, sequence number
	packet = append(packet, 0xff)
	packet = binary.LittleEndian.AppendUint16(packet, mysqlCode(r.Kind))
	packet = append(packet, text...)
	_, err := client.Write(packet)
	return err
}

// mysqlCode returns the error number of a refusal. MySQL and MariaDB both have
// these. Source: MySQL and MariaDB error references.
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

// isSilent knows the only clients that wait for the server to speak first.
func isSilent(first []byte) bool { return len(first) == 0 }
