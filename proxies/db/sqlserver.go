package db

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
)

var sqlserver = Protocol{
	Name:   "sqlserver",
	Title:  "SQL Server",
	ALPN:   "teleport-sqlserver",
	Native: true,
	guess:  isSQLServer,
	refuse: refuseSQLServer,
	client: client{
		text: map[Format]func(Endpoint) string{
			URL: sqlserverURL,
			JDBC: func(e Endpoint) string {
				s := "jdbc:sqlserver://" + e.addr()
				if strings.Contains(e.Host, ":") { // the driver takes no brackets
					s = "jdbc:sqlserver://;serverName=" + e.Host + ";port=" + e.port()
				}
				for _, kv := range nonEmpty("databaseName", e.DBName, "user", e.DBUser) {
					key, value, _ := strings.Cut(kv, "=")
					s += ";" + key + "=" + braces(value)
				}
				return s + ";encrypt=false"
			},
			DSN: func(e Endpoint) string {
				var s strings.Builder
				s.WriteString("Server=tcp:" + e.Host + "," + e.port())
				for _, kv := range nonEmpty("Database", e.DBName, "User ID", e.DBUser) {
					key, value, _ := strings.Cut(kv, "=")
					s.WriteString(";" + key + "=" + adoQuote(value))
				}
				return s.String() + ";Encrypt=False"
			},
		},
		env: func(e Endpoint) []string {
			return nonEmpty("SQLCMDSERVER", "tcp:"+e.Host+","+e.port(), "SQLCMDUSER", e.DBUser,
				"SQLCMDPASSWORD", unusedPassword, "SQLCMDDBNAME", e.DBName, "DATABASE_URL", sqlserverURL(e))
		},
		command: func(e Endpoint) []string {
			argv := args([]string{"sqlcmd", "-S", "tcp:" + e.Host + "," + e.port()}, "-U", e.DBUser)
			return args(append(argv, "-P", unusedPassword), "-d", e.DBName)
		},
	},
}

func sqlserverURL(e Endpoint) string {
	return makeURL("sqlserver", e.DBUser, e, "", "database", e.DBName, "encrypt", "disable")
}

// braces quotes a property of a SQL Server JDBC URL.
func braces(s string) string {
	if !strings.ContainsAny(s, ";{}= ") {
		return s
	}
	return "{" + strings.ReplaceAll(s, "}", "}}") + "}"
}

// adoQuote quotes a value of an ADO.NET connection string.
func adoQuote(s string) string {
	if !strings.ContainsAny(s, `;"'= `) {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

// Packets and tokens of TDS. Source: [MS-TDS], sections 2.2.3 (packets),
// 2.2.6.5 (PRELOGIN), 2.2.7.10 (ERROR) and 2.2.7.6 (DONE).
const (
	tdsLogin7   = 0x10
	tdsPrelogin = 0x12
	tdsReply    = 0x04
	tdsLast     = 0x01 // the status of a message's last packet
	tdsHead     = 8    // type, status, length, process id, packet number, window
	tdsPacket   = 4096 // before a login, no packet is longer
	tdsError    = 0xaa
	tdsDone     = 0xfd
	tds72       = 0x72 // from this version on lines and rows are counted in more bytes
)

// tdsNoEncryption is the answer to PRELOGIN: a table of options (number,
// offset, length) and their values. Only after "not supported" is the login
// sent in the clear; a client that insists on encryption says so itself.
var tdsNoEncryption = []byte{
	0, 0, 16, 0, 6, // version
	1, 0, 22, 0, 1, // encryption
	4, 0, 23, 0, 1, // several statements at once
	0xff,
	16, 0, 0, 0, 0, 0, // SQL Server 2022
	2, // not supported
	0, // no
}

// refuseSQLServer declines encryption and answers the login with an error.
func refuseSQLServer(client io.ReadWriter, r Refusal) error {
	for range 2 { // the oldest clients have no PRELOGIN
		kind, body, err := tdsRead(client)
		if err != nil {
			return err
		}
		if kind == tdsLogin7 {
			if len(body) < 8 {
				return fmt.Errorf("%w: a login of %d bytes", errGarbage, len(body))
			}
			version := body[7] // the high byte of the second field
			return tdsWrite(client, append(tdsErrorToken(r, version), tdsDoneToken(version)...))
		}
		if err := tdsWrite(client, tdsNoEncryption); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: no login", errGarbage)
}

// tdsRead reads a message of one or more packets and returns its beginning.
func tdsRead(r io.Reader) (kind byte, body []byte, err error) {
	for {
		var head [tdsHead]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return 0, nil, err
		}
		size := int(binary.BigEndian.Uint16(head[2:]))
		if head[0] != tdsLogin7 && head[0] != tdsPrelogin || size < tdsHead {
			return 0, nil, fmt.Errorf("%w: a packet %#x of %d bytes", errGarbage, head[0], size)
		}
		packet := make([]byte, size-tdsHead)
		if _, err := io.ReadFull(r, packet); err != nil {
			return 0, nil, err
		}
		if body == nil { // the version that decides the answer's form is in the first
			kind, body = head[0], packet
		}
		if head[1]&tdsLast != 0 {
			return kind, body, nil
		}
	}
}

func tdsWrite(w io.Writer, body []byte) error {
	packet := []byte{tdsReply, tdsLast, 0, 0, 0, 0, 1, 0}
	packet = append(packet, body...)
	binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
	_, err := w.Write(packet)
	return err
}

func tdsErrorToken(r Refusal, version byte) []byte {
	const (
		state, class = 1, 14 // class 14: security, the connection ends
		fixed        = 256   // everything but the text, generously
	)
	text := utf16.Encode([]rune(r.line((tdsPacket - fixed) / 2)))
	b := []byte{tdsError, 0, 0}
	b = binary.LittleEndian.AppendUint32(b, tdsCode(r.Kind))
	b = append(b, state, class)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(text)))
	for _, unit := range text {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	b = append(b, 0, 0) // no server, no procedure
	b = append(b, 1, 0) // line
	if version >= tds72 {
		b = append(b, 0, 0)
	}
	binary.LittleEndian.PutUint16(b[1:], uint16(len(b)-3))
	return b
}

func tdsDoneToken(version byte) []byte {
	const final, failed = 0x00, 0x02
	b := []byte{tdsDone, final | failed, 0, 0, 0} // status, command
	if version >= tds72 {
		return append(b, make([]byte, 8)...) // rows
	}
	return append(b, make([]byte, 4)...)
}

// tdsCode returns the error number of a refusal. Source: SQL Server's
// sys.messages. Drivers retry by themselves after those of Azure (40613, …).
func tdsCode(kind RefusalKind) uint32 {
	switch kind {
	case RefusalDenied, RefusalMFA:
		return 18456 // login failed
	case RefusalUnknown:
		return 4060 // cannot open database
	default:
		return 17142 // paused, no new connections will be allowed
	}
}

// isSQLServer knows the types of the first packet.
func isSQLServer(first []byte) bool {
	return len(first) > 0 && (first[0] == tdsPrelogin || first[0] == tdsLogin7)
}
