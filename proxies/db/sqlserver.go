package db

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"unicode/utf16"
)

var sqlserver = Protocol{
	Name:    "sqlserver",
	Title:   "SQL Server",
	ALPN:    "teleport-sqlserver",
	Native:  true,
	guess:   isSQLServer,
	opens:   opensBy(1, isSQLServer),
	answers: tdsJudges,
	refuse:  refuseSQLServer,
	secure:  secureSQLServer,
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
				return s + ";encrypt=" + e.secure([]string{"true"}, []string{"false"})[0]
			},
			DSN: func(e Endpoint) string {
				var s strings.Builder
				s.WriteString("Server=tcp:" + e.Host + "," + e.port())
				for _, kv := range nonEmpty("Database", e.DBName, "User ID", e.DBUser) {
					key, value, _ := strings.Cut(kv, "=")
					s.WriteString(";" + key + "=" + adoQuote(value))
				}
				return s.String() + ";Encrypt=" + e.secure([]string{"True"}, []string{"False"})[0]
			},
		},
		noCA: []Format{JDBC, DSN, Env},
		env: func(e Endpoint) []string {
			return nonEmpty("SQLCMDSERVER", "tcp:"+e.Host+","+e.port(), "SQLCMDUSER", e.DBUser,
				"SQLCMDPASSWORD", unusedPassword, "SQLCMDDBNAME", e.DBName, "DATABASE_URL", sqlserverURL(e),
				"MSSQL_CLI_SERVER", e.Host+","+e.port(), "MSSQL_CLI_USER", e.DBUser, "MSSQL_CLI_PASSWORD", unusedPassword,
				"MSSQL_CLI_DATABASE", e.DBName, "TDSHOST", e.Host, "TDSPORT", e.port())
		},
		clear:   []string{"SQLCMDUSEAAD", "SQLCMDAUTHENTICATIONMETHOD", "DSQUERY", "TDSQUERY"},
		command: func(e Endpoint) []string { return append([]string{"sqlcmd"}, sqlcmdArgs(e)...) },
		usual:   []string{"sqlcmd"},
		programs: []program{
			{names: []string{"sqlcmd", "mssql-cli"}, args: sqlcmdOrSubcommand},
			{names: []string{"bcp"}, args: bcpArgs, last: true},
			{names: []string{"tsql"}, args: always(func(e Endpoint) []string {
				argv := args([]string{"-H", e.Host, "-p", e.port()}, "-U", e.DBUser)
				return args(append(argv, "-P", unusedPassword), "-D", e.DBName)
			})},
		},
	},
}

func sqlcmdArgs(e Endpoint) []string {
	argv := args([]string{"-S", "tcp:" + e.Host + "," + e.port()}, "-U", e.DBUser)
	if e.CA != "" {
		argv = append(argv, "-N")
	}
	return args(append(argv, "-P", unusedPassword), "-d", e.DBName)
}

// sqlcmdOrSubcommand: the newer sqlcmd has commands that take no server, only its
// own contexts.
func sqlcmdOrSubcommand(x execution) ([]string, error) {
	commands := []string{"config", "create", "delete", "open", "query", "start", "stop", "uninstall"}
	if len(x.given) > 0 && slices.Contains(commands, x.given[0]) {
		return nil, &LeadError{Program: "sqlcmd " + x.given[0], Why: "takes its server from its own contexts"}
	}
	return sqlcmdArgs(x.Endpoint), nil
}

// bcpArgs are for a program that takes a server once only, after the table.
func bcpArgs(x execution) ([]string, error) {
	if slices.ContainsFunc(x.given, func(arg string) bool { return strings.HasPrefix(arg, "-S") }) {
		return nil, nil
	}
	return sqlcmdArgs(x.Endpoint), nil
}

func sqlserverURL(e Endpoint) string {
	return makeURL("sqlserver", e.DBUser, e, "", append([]string{"database", e.DBName}, e.secure(
		[]string{"encrypt", "true", "certificate", e.CA}, []string{"encrypt", "disable"})...)...)
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
	tds80       = 0x08 // the version after 7.4
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
	if tdsCountsLong(version) {
		b = append(b, 0, 0)
	}
	binary.LittleEndian.PutUint16(b[1:], uint16(len(b)-3))
	return b
}

func tdsCountsLong(version byte) bool { return version >= tds72 || version == tds80 }

func tdsDoneToken(version byte) []byte {
	const final, failed = 0x00, 0x02
	b := []byte{tdsDone, final | failed, 0, 0, 0} // status, command
	if tdsCountsLong(version) {
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

// The encryption that a client or a server names in its PRELOGIN.
const (
	tdsEncryption = 1 // the option's number
	tdsEncryptOff = 0 // at most the login
	tdsEncryptOn  = 1
	tdsEncryptNot = 2 // not supported
)

// alpnTDS is what clients offer that begin with TLS (encrypt=strict).
const alpnTDS = "tds/8.0"

// secureSQLServer answers a PRELOGIN whose client wants TLS, and makes the
// handshake, which goes over packets of TDS. The server gets the PRELOGIN of a
// client that cannot encrypt; its answer is dropped, since the client has one.
//
// A client that does not ask for more than an encrypted login gets none, which
// it accepts: some verify the certificate even then, and cannot know berth's.
func secureSQLServer(f *Front) error {
	if f.said[0] != tdsPrelogin {
		return f.direct(alpnTDS)
	}
	if err := f.need(tdsHead); err != nil {
		return err
	}
	size := int(binary.BigEndian.Uint16(f.said[2:]))
	if size < tdsHead || size > tdsPacket || f.said[1]&tdsLast == 0 {
		f.plain()
		return nil
	}
	if err := f.need(size); err != nil {
		return err
	}
	hello := bytes.Clone(f.said[:size])
	wish := tdsOption(hello, tdsEncryption)
	if wish == nil || *wish == tdsEncryptNot || *wish == tdsEncryptOff {
		f.plain()
		return nil
	}
	*wish = tdsEncryptNot
	shaking := &tdsShaking{}
	err := f.shake(handshake{
		skip: size, answer: tdsEncrypting(), first: hello,
		max: tls.VersionTLS12, // the handshake's end is where packets end, which is not so in TLS 1.3
		over: func(conn net.Conn) net.Conn {
			shaking.Conn = conn
			return shaking
		},
		then: func(conn *tls.Conn) *via {
			shaking.done = true
			return &via{conn, &tdsAnswers{w: conn}, f.closeTLS(conn), false}
		},
	})
	if _, no := errors.AsType[*noCertError](err); no {
		f.plain()
		return nil
	}
	return err
}

// tdsEncrypting is the packet that answers a PRELOGIN: everything is encrypted.
func tdsEncrypting() []byte {
	var b bytes.Buffer
	_ = tdsWrite(&b, tdsNoEncryption) // a buffer takes everything
	answer := b.Bytes()
	*tdsOption(answer, tdsEncryption) = tdsEncryptOn
	return answer
}

// tdsOption returns the first byte of an option's value in the packet of a
// PRELOGIN or its answer; nil: there is none.
func tdsOption(packet []byte, option byte) *byte {
	body := packet[tdsHead:]
	for table := body; len(table) >= 5 && table[0] != 0xff; table = table[5:] {
		at, size := int(binary.BigEndian.Uint16(table[1:])), binary.BigEndian.Uint16(table[3:])
		if table[0] == option && size > 0 && at < len(body) {
			return &body[at]
		}
	}
	return nil
}

// tdsShaking carries the records of a handshake in packets of TDS, and is the
// socket again once it is done.
type tdsShaking struct {
	net.Conn
	left int // of the current packet
	done bool
}

func (t *tdsShaking) Read(p []byte) (int, error) {
	if t.done {
		return t.Conn.Read(p)
	}
	for t.left == 0 {
		var head [tdsHead]byte
		if _, err := io.ReadFull(t.Conn, head[:]); err != nil {
			return 0, err
		}
		size := int(binary.BigEndian.Uint16(head[2:]))
		if head[0] != tdsPrelogin || size < tdsHead {
			return 0, fmt.Errorf("%w: a packet %#x in a handshake", errGarbage, head[0])
		}
		t.left = size - tdsHead
	}
	n, err := t.Conn.Read(p[:min(len(p), t.left)])
	t.left -= n
	return n, err
}

func (t *tdsShaking) Write(p []byte) (int, error) {
	if t.done {
		return t.Conn.Write(p)
	}
	sent := 0
	for sent < len(p) {
		part := p[sent:min(len(p), sent+tdsPacket-tdsHead)]
		packet := append([]byte{tdsPrelogin, tdsLast, 0, 0, 0, 0, 1, 0}, part...)
		binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
		if _, err := t.Conn.Write(packet); err != nil {
			return sent, err
		}
		sent += len(part)
	}
	return sent, nil
}

// tdsAnswers writes what a server says, without its answer to PRELOGIN.
type tdsAnswers struct {
	w     io.Writer
	got   []byte // the beginning of the answer
	later bool   // it was seen
}

func (t *tdsAnswers) Write(p []byte) (int, error) {
	if t.later {
		return t.w.Write(p)
	}
	t.got = append(t.got, p...)
	if len(t.got) < tdsHead {
		return len(p), nil
	}
	size := int(binary.BigEndian.Uint16(t.got[2:]))
	if len(t.got) < size {
		return len(p), nil
	}
	rest := t.got
	if t.got[0] == tdsReply && size > tdsHead && t.got[tdsHead] == 0 { // its first option is the version
		rest = t.got[size:]
	}
	t.got, t.later = nil, true
	if len(rest) == 0 {
		return len(p), nil
	}
	if _, err := t.w.Write(rest); err != nil {
		return 0, err
	}
	return len(p), nil
}

// tdsJudges looks for an error among the tokens that answer a login. Before
// them comes the answer to PRELOGIN, which is a packet of the same type and
// begins with the number of an option.
func tdsJudges(said, _ []byte, _ bool) answer {
	for len(said) > tdsHead {
		size := int(binary.BigEndian.Uint16(said[2:]))
		if said[0] != tdsReply || size < tdsHead {
			return served // nothing that berth knows
		}
		if len(said) < size {
			return answer{}
		}
		body := said[tdsHead:size]
		switch {
		case len(body) > 0 && body[0] == tdsError:
			return answer{refused: tdsRefused(body)}
		case len(body) > 0 && body[0] > 0x10: // a token, and no option
			return served
		}
		said = said[size:]
	}
	return answer{}
}

// tdsRefused reads an ERROR token: a length, a number, a state and a class, and
// the text with its length. All of Teleport's have the same number.
func tdsRefused(token []byte) *RefusedError {
	const before = 1 + 2 + 4 + 1 + 1 + 2
	const teleports, loginFailed, noDB = 28353, 18456, 4060
	if len(token) < before {
		return refusedBy(ByTeleport, "")
	}
	size := int(binary.LittleEndian.Uint16(token[before-2:]))
	units := make([]uint16, 0, size)
	for at := before; at+2 <= len(token) && len(units) < size; at += 2 {
		units = append(units, binary.LittleEndian.Uint16(token[at:]))
	}
	words := string(utf16.Decode(units))
	number := binary.LittleEndian.Uint32(token[3:])
	if number == teleports {
		return refusedBy(ByTeleport, words)
	}
	return refusedBy(ByDatabase, fmt.Sprintf("%s (error %d)", words, number)).
		because(number == loginFailed, number == loginFailed || number == noDB)
}
