package db

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"berth/internal/shell"
)

var mysql = Protocol{
	Name:        "mysql",
	Title:       "MySQL",
	ALPN:        mysqlALPN,
	Native:      true,
	Warm:        true,
	serverFirst: true,
	guess:       isSilent,
	opens:       mysqlOpens,
	answers:     mysqlAnswer,
	login:       mysqlProbe,
	logout:      "\x01\x00\x00\x00\x01",
	names:       mysqlNames,
	retell:      mysqlRetell,
	refuse:      refuseMySQL,
	secure:      secureMySQL,
	greet:       greetMySQL,
	follow:      followMySQL,
	farewell:    mysqlFarewell,
	client:      mysqlClient(connectorJ),
}

// mariadb is what people call a resource whose protocol is mysql.
var mariadb = mysql.alias("mariadb", "MariaDB", mysqlClient(mariadbJDBC))

const mysqlALPN = "teleport-mysql"

// ALPNHints returns what to offer a proxy after p.ALPN where the version of the
// server is known. A proxy that greets MySQL's clients before it knows the
// database takes the version from there: with its own, clients take MariaDB for
// MySQL 8 and ask for variables that it does not have.
func (p Protocol) ALPNHints(version string) []string {
	const longest = 255 // RFC 7301
	hint := mysqlALPN + "-" + base64.StdEncoding.EncodeToString([]byte(version))
	if p.ALPN != mysqlALPN || version == "" || len(hint) > longest {
		return nil
	}
	return []string{hint}
}

// mysqlJDBC is the JDBC driver of MySQL or of MariaDB.
type mysqlJDBC struct {
	url    func(Endpoint) string
	refuse func(Endpoint) error
	noCA   []Format // those of the protocol, of which this driver's is one or not
}

// connectorJ is MySQL's. It decodes what is escaped, and trims the database's
// name after that. MariaDB's takes its URLs too and decodes nothing, so only
// what must be is escaped.
var connectorJ = mysqlJDBC{
	noCA: []Format{JDBC, DSN, Env},
	url: func(e Endpoint) string {
		s, user := "jdbc:mysql://"+e.addr()+"/"+percent(e.DBName, "+#?/"), percent(e.DBUser, "+#&")
		if edged(e.DBUser) {
			user = strings.ReplaceAll(user, " ", "%20")
		}
		return s + "?" + strings.Join(nonEmpty("user", user, "sslMode", e.secure([]string{"VERIFY_IDENTITY"}, []string{"DISABLED"})[0]), "&")
	},
	refuse: func(e Endpoint) error {
		if edged(e.DBName) {
			return fmt.Errorf("a JDBC URL cannot hold the database %q: spaces at its ends are lost", e.DBName)
		}
		return nil
	},
}

// mariadbJDBC is MariaDB's, which takes everything as it stands.
var mariadbJDBC = mysqlJDBC{
	noCA: []Format{DSN, Env},
	url: func(e Endpoint) string {
		return "jdbc:mariadb://" + e.addr() + "/" + e.DBName + "?" +
			strings.Join(nonEmpty("user", e.DBUser, "sslMode", e.secure([]string{"verify-full"}, []string{"disable"})[0], "serverSslCert", e.CA), "&")
	},
	refuse: func(e Endpoint) error {
		switch {
		case strings.Contains(e.DBName, "?"):
			return fmt.Errorf("MariaDB's JDBC URL cannot hold the database %q: a question mark would end it", e.DBName)
		case strings.Contains(e.DBUser, "&"):
			return fmt.Errorf("MariaDB's JDBC URL cannot hold the user %q: an ampersand would end it", e.DBUser)
		}
		return nil
	},
}

// mysqlClient makes the client of MySQL or MariaDB; their JDBC drivers differ.
func mysqlClient(jdbc mysqlJDBC) client {
	toURL := func(e Endpoint) string {
		return makeURL("mysql", e.DBUser, e, e.DBName, e.secure([]string{"ssl-mode", "VERIFY_IDENTITY", "ssl-ca", e.CA}, nil)...)
	}
	return client{
		text: map[Format]func(Endpoint) string{
			URL:  toURL,
			JDBC: jdbc.url,
			DSN: func(e Endpoint) string {
				user := ""
				if e.DBUser != "" {
					user = e.DBUser + "@"
				}
				dsn := user + "tcp(" + e.addr() + ")/" + percent(e.DBName, "/?") // before 1.8 the driver decoded nothing
				if e.CA != "" {                                                  // a CA is registered in the program
					dsn += "?tls=true"
				}
				return dsn
			},
			MyCnf: myCnf,
		},
		// MySQL's own clients take the user from the option file or the command
		// line; the last two are Terraform's.
		env: func(e Endpoint) []string {
			return nonEmpty("MYSQL_HOST", e.Host, "MYSQL_TCP_PORT", e.port(), "DATABASE_URL", toURL(e),
				"MYSQL_ENDPOINT", e.addr(), "MYSQL_USERNAME", e.DBUser)
		},
		clear: []string{
			"MYSQL_UNIX_PORT", "MYSQL_PWD", "MYSQL_PASSWORD", "MYSQL_TLS_CONFIG", "MYSQL_URL", "MARIADB_URL", "MYSQL_GROUP_SUFFIX", "MARIADB_GROUP_SUFFIX",
			"LIBMYSQL_PLUGINS", "LIBMYSQL_PLUGIN_DIR", "LIBMYSQL_ENABLE_CLEARTEXT_PLUGIN", "MARIADB_PLUGIN_DIR",
		},
		noCA:  jdbc.noCA,
		files: mysqlFiles,
		command: func(e Endpoint) []string {
			return slices.Concat([]string{"mysql"}, mysqlArgs(e), mysqlDatabase(e))
		},
		usual: []string{"mysql"},
		programs: []program{
			{names: []string{"mysql", "mariadb"}, leading: mysqlLeading, args: func(x execution) ([]string, error) {
				argv, err := mysqlClientArgs(x)
				return append(argv, mysqlDatabase(x.Endpoint)...), err
			}},
			{
				names: []string{
					"mysqladmin", "mysqlanalyze", "mysqlbinlog", "mysqlcheck", "mysqldump", "mysqlimport", "mysqloptimize", "mysqlpump",
					"mysqlrepair", "mysqlshow", "mysqlslap", "mysql_upgrade", "mariadb-admin", "mariadb-analyze", "mariadb-binlog",
					"mariadb-check", "mariadb-dump", "mariadb-import", "mariadb-optimize", "mariadb-repair", "mariadb-show",
					"mariadb-slap", "mariadb-upgrade", "mariadbcheck",
				},
				leading: mysqlLeading, args: mysqlClientArgs,
			},
			{names: []string{"mydumper", "myloader"}, args: always(func(e Endpoint) []string {
				return args([]string{"--host=" + e.Host, "--port=" + e.port()}, "--user", e.DBUser)
			})},
			{names: []string{"mycli"}, clear: []string{"DSN"}, args: func(x execution) ([]string, error) {
				argv := args([]string{"-h", x.Host, "-P", x.port()}, "-u", x.DBUser)
				// Instead of the user's own, whose password would be sent.
				return append(args(argv, "-D", x.DBName), "--defaults-file="+filepath.Join(x.dir, optionFile)), nil
			}},
			{names: []string{"mysqlsh"}, args: always(func(e Endpoint) []string {
				argv := []string{"--mysql", "--host=" + e.Host, "--port=" + e.port(), "--no-password", "--ssl-mode=DISABLED"}
				if e.DBUser != "" {
					argv = append(argv, "--user="+e.DBUser)
				}
				return argv
			})},
		},
		refuse: func(e Endpoint, f Format) error {
			switch {
			case f == JDBC:
				return jdbc.refuse(e)
			case f == DSN && strings.Contains(e.DBUser, ":"):
				return fmt.Errorf("a DSN cannot hold the user %q: a colon would begin a password", e.DBUser)
			}
			return nil
		},
	}
}

// mysqlArgs beat every option file, and are known to all clients.
func mysqlArgs(e Endpoint) []string {
	argv := args([]string{"--protocol=TCP", "-h", e.Host, "-P", e.port()}, "-u", e.DBUser)
	if e.CA != "" { // which stands for a verifying mode too
		argv = append(argv, "--ssl-ca="+e.CA)
	}
	return append(argv, "--skip-password")
}

func mysqlDatabase(e Endpoint) []string {
	if e.DBName == "" {
		return nil
	}
	return []string{"-D", e.DBName}
}

// mysqlLeading counts the options that must come first of all. Each program
// takes only the first of some of them, so all stay together.
func mysqlLeading(given []string) int {
	first := []string{
		"--defaults-file", "--defaults-extra-file", "--defaults-group-suffix", "--login-path", "--no-defaults", "--no-login-paths",
		"--print-defaults",
	}
	for i, arg := range given {
		if name, _, _ := strings.Cut(arg, "="); !slices.Contains(first, name) {
			return i
		}
	}
	return len(given)
}

// mysqlHelpTime bounds how long a client may take to print its help.
const mysqlHelpTime = 5 * time.Second

// srvName is the line of a client's help that says what its option files set,
// but for the words that say they do not.
var srvName = regexp.MustCompile(`(?m)^dns-srv-name\s+([^(\s].*)$`)

// mysqlClientArgs are mysqlArgs, and what switches off TLS: MySQL and MariaDB
// spell it differently, call their programs by the same names, and fail at each
// other's. The client's help shows which it is.
func mysqlClientArgs(x execution) ([]string, error) {
	argv := mysqlArgs(x.Endpoint)
	ctx, cancel := context.WithTimeout(context.Background(), mysqlHelpTime)
	defer cancel()
	asked := append(slices.Clone(x.given[:mysqlLeading(x.given)]), "--help")
	cmd := exec.CommandContext(ctx, x.path, asked...)
	cmd.Env = x.env
	// mysql_upgrade prints its help and fails. Where an option file is broken there is
	// no help: the client itself says so best.
	help, _ := cmd.Output()
	if to := srvName.FindSubmatch(help); to != nil {
		return nil, &LeadError{
			Program: filepath.Base(x.path),
			Why:     fmt.Sprintf("goes to dns-srv-name %q of an option file, whatever else it is given", to[1]),
		}
	}
	switch {
	case bytes.Contains(help, []byte("--ssl-mode")):
		argv = append(argv, "--ssl-mode=DISABLED")
	case bytes.Contains(help, []byte("--ssl ")):
		argv = append(argv, "--skip-ssl")
		if bytes.Contains(help, []byte("--ssl-verify-server-cert")) { // it would ask for TLS by itself
			argv = append(argv, "--skip-ssl-verify-server-cert")
		}
	}
	return argv, nil
}

// optionFile is what clients look for in the folder of MYSQL_HOME.
const optionFile = "my.cnf"

// mysqlFiles writes an option file for programs that berth does not know: the
// user of the database is in no variable. The file of logins is one that is not
// there, since clients look into it even if they look into no other.
func mysqlFiles(e Endpoint, dir string) ([]string, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, optionFile), []byte(myCnf(e)+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("make option file: %w", err)
	}
	return []string{"MYSQL_HOME=" + dir, "MARIADB_HOME=" + dir, "MYSQL_TEST_LOGIN_FILE=" + filepath.Join(dir, "no-logins")}, nil
}

// myCnf writes option file sections, and what beats them. The database stands
// apart, since not all clients that read [client] know it.
func myCnf(e Endpoint) string {
	var b strings.Builder
	b.WriteString("# With --defaults-extra-file, ~/.my.cnf comes after this file and beats it;\n" +
		"# with --defaults-file, only ~/.mylogin.cnf does. Arguments beat all files:\n")
	always := slices.Concat([]string{"mysql", "--no-defaults"}, mysqlArgs(e), mysqlDatabase(e))
	fmt.Fprintf(&b, "# %s\n", shell.Quote(always...))
	fmt.Fprintf(&b, "[client]\nprotocol=TCP\nhost=%s\nport=%d", e.Host, e.Port)
	if e.DBUser != "" {
		fmt.Fprintf(&b, "\nuser=%s", optionQuote(e.DBUser))
	}
	b.WriteString("\npassword=") // instead of MYSQL_PWD, which Teleport would refuse
	if e.CA != "" {
		fmt.Fprintf(&b, "\nssl-ca=%s", optionQuote(e.CA))
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

// mysqlOpens knows the answer to the server's greeting by its head: it is the
// second packet of the connection.
func mysqlOpens(first []byte) verdict {
	if len(first) < mysqlHead {
		return verdictShort
	}
	size := mysqlSize(first)
	if first[3] != 1 || size == 0 || size > hearMax {
		return verdictForeign
	}
	return verdictOurs
}

// isSilent knows the only clients that wait for the server to speak first.
func isSilent(first []byte) bool { return len(first) == 0 }

// Of the greeting and the client's answer to it. Source: MySQL source
// documentation, "Connection Phase", Protocol::HandshakeV10 and SSLRequest.
const (
	mysqlHead       = 4  // of a packet: its length and its number
	mysqlProtocol   = 10 // the first byte of the greeting
	mysqlSSL        = 1 << 11
	mysqlSSLRequest = 32 // its length; a login is longer
	mysqlOK         = 0x00
	mysqlErr        = 0xff
)

// greeting is what a server has said first. But for offered it is guarded by the
// Front's turn.
type greeting struct {
	got     []byte      // until it is complete
	done    bool        // it was passed on
	offered atomic.Bool // with TLS in it
}

// greetMySQL offers TLS in the server's greeting. f.turn is held.
func greetMySQL(f *Front, p []byte) (int, error) {
	g := &f.greeted
	if g.done {
		return f.tcp.Write(p)
	}
	g.got = append(g.got, p...)
	if len(g.got) < mysqlHead || len(g.got) < mysqlHead+mysqlSize(g.got) {
		return len(p), nil
	}
	if at := mysqlCapabilities(g.got); at > 0 {
		if _, err := f.cfg.Cert(); err == nil {
			caps := binary.LittleEndian.Uint16(g.got[at:])
			binary.LittleEndian.PutUint16(g.got[at:], caps|mysqlSSL)
			g.offered.Store(true)
		}
	}
	if err := g.release(f.tcp); err != nil {
		return 0, err
	}
	return len(p), nil
}

// release passes on what there is of a greeting that will not be changed, because the
// client does not wait for the rest of it, or none follows. f.turn is held.
func (g *greeting) release(client io.Writer) error {
	part := g.got
	g.got, g.done = nil, true
	if len(part) == 0 {
		return nil
	}
	_, err := client.Write(part)
	return err
}

// mysqlSize is the length of the packet with that head.
func mysqlSize(head []byte) int { return int(head[0]) | int(head[1])<<8 | int(head[2])<<16 }

// mysqlCapabilities returns where a greeting has the lower half of the server's
// capabilities; 0: it is no greeting that berth knows.
func mysqlCapabilities(packet []byte) int {
	body := packet[mysqlHead:]
	if len(body) == 0 || body[0] != mysqlProtocol {
		return 0
	}
	version := bytes.IndexByte(body[1:], 0)
	at := mysqlHead + 1 + version + 1 + 4 + 8 + 1 // version, connection's number, salt, zero
	if version < 0 || at+2 > len(packet) {
		return 0
	}
	return at
}

// secureMySQL answers an SSLRequest. It is a packet of its own, which the server
// does not see: from then until the login's end the packets of both sides have
// numbers that differ by one.
//
// A client sends some kinds of passwords in the clear where it has TLS. None
// gets that far: Teleport's greeting asks for mysql_native_password.
func secureMySQL(f *Front) error {
	if !f.greeted.offered.Load() {
		f.plain()
		return nil
	}
	if err := f.need(mysqlHead); err != nil {
		return err
	}
	if mysqlSize(f.said) != mysqlSSLRequest || f.said[3] != 1 {
		f.plain()
		return nil
	}
	const whole = mysqlHead + mysqlSSLRequest
	if err := f.need(whole); err != nil {
		return err
	}
	if binary.LittleEndian.Uint16(f.said[mysqlHead:])&mysqlSSL == 0 {
		f.plain()
		return nil
	}
	return f.shake(handshake{skip: whole, then: func(conn *tls.Conn) *via {
		return &via{&mysqlLogin{r: conn}, &mysqlAnswers{w: conn}, f.closeTLS(conn), false}
	}})
}

// mysqlLogin reads a client's packets of a login, and renumbers them. A packet
// with the number 0 is a command, and no longer part of it.
type mysqlLogin struct {
	r     io.Reader
	got   []byte // the beginning of a packet
	out   []byte // what Read is to return
	first bool   // the first packet was seen
	later bool   // the login has ended
}

func (m *mysqlLogin) Read(p []byte) (int, error) {
	for len(m.out) == 0 {
		if m.later {
			return m.r.Read(p)
		}
		buf := make([]byte, 1024)
		n, err := m.r.Read(buf)
		m.got = append(m.got, buf[:n]...)
		m.packets()
		if errors.Is(err, io.EOF) { // the server will know
			m.out, m.got, m.later = append(m.out, m.got...), nil, true
		}
		if err != nil && len(m.out) == 0 {
			return 0, err
		}
	}
	n := copy(p, m.out)
	m.out = m.out[n:]
	return n, nil
}

func (m *mysqlLogin) packets() {
	for !m.later && len(m.got) >= mysqlHead {
		whole := mysqlHead + mysqlSize(m.got)
		m.later = m.got[3] == 0 || whole > refuseMax
		if m.later {
			break
		}
		if len(m.got) < whole {
			return
		}
		m.got[3]--
		if !m.first && whole >= mysqlHead+2 {
			m.got[mysqlHead+1] &^= mysqlSSL >> 8 // the server has not offered it
		}
		m.first = true
		m.out, m.got = append(m.out, m.got[:whole]...), m.got[whole:]
	}
	if m.later {
		m.out, m.got = append(m.out, m.got...), nil
	}
}

// mysqlAnswers writes a server's answers to a login, and renumbers them.
type mysqlAnswers struct {
	w     io.Writer
	got   []byte // the beginning of a packet
	later bool   // the login has ended
}

func (m *mysqlAnswers) Write(p []byte) (int, error) {
	if m.later {
		return m.w.Write(p)
	}
	m.got = append(m.got, p...)
	var out []byte
	for !m.later && len(m.got) > mysqlHead {
		whole := mysqlHead + mysqlSize(m.got)
		if len(m.got) < whole {
			break
		}
		m.got[3]++
		kind := m.got[mysqlHead]
		m.later = whole > mysqlHead && (kind == mysqlOK || kind == mysqlErr)
		out, m.got = append(out, m.got[:whole]...), m.got[whole:]
	}
	if m.later {
		out, m.got = append(out, m.got...), nil
	}
	if len(out) > 0 {
		if _, err := m.w.Write(out); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// mysqlUnknown is the code of Teleport's own errors; a database's has another one.
const mysqlUnknown = 1105 // ER_UNKNOWN_ERROR

// mysqlAnswer looks for the end of the login: the server's OK, or an error, which
// may come in the greeting's place. What stands between asks for a password.
func mysqlAnswer(said, _ []byte, _ bool) answer {
	for at := 0; len(said)-at > mysqlHead; {
		end := at + mysqlHead + mysqlSize(said[at:])
		if end > at+hearMax {
			return served // nothing that berth knows
		}
		if len(said) < end {
			return answer{}
		}
		body := said[at+mysqlHead : end]
		switch {
		case len(body) > 0 && body[0] == mysqlErr:
			return answer{refused: mysqlRefused(body), from: at, to: end}
		case at > 0 && len(body) > 0 && body[0] == mysqlOK:
			return served
		}
		at = end
	}
	return answer{}
}

// mysqlRefused reads the body of an ERR packet.
func mysqlRefused(body []byte) *RefusedError {
	if len(body) < 3 {
		return refusedBy(ByTeleport, "")
	}
	code, words := binary.LittleEndian.Uint16(body[1:]), string(body[3:])
	if len(words) > 6 && words[0] == '#' {
		words = words[6:]
	}
	if code == mysqlUnknown {
		return refusedBy(ByTeleport, words)
	}
	const forbidden, denied, noDB = 1044, 1045, 1049
	return refusedBy(ByDatabase, fmt.Sprintf("%s (error %d)", words, code)).
		because(code == denied, code == forbidden || code == denied || code == noDB)
}

// mysqlRetell adds a hint to the text of an ERR packet, which is its end.
func mysqlRetell(refusal []byte, hint string) []byte {
	hint = cut(" Hint: "+hint, max(mysqlTextMax-len(refusal), 0))
	again := append(bytes.Clone(refusal), hint...)
	size := len(again) - mysqlHead
	again[0], again[1], again[2] = byte(size), byte(size>>8), byte(size>>16)
	return again
}

// mysqlNames returns what a client's login names: the user, which stands after its
// capabilities, the largest packet, the character set and 23 unused bytes, and
// after the answer to the salt the database.
func mysqlNames(client []byte) (user, database string) {
	const before, withDB = mysqlHead + 4 + 4 + 1 + 23, 1 << 3
	if len(client) < before {
		return "", ""
	}
	named, rest, _ := bytes.Cut(client[before:], []byte{0})
	if client[mysqlHead]&withDB != 0 && len(rest) > 0 && len(rest) > int(rest[0]) {
		name, _, _ := bytes.Cut(rest[1+int(rest[0]):], []byte{0})
		database = string(name)
	}
	return string(named), database
}

// mysqlProbe is a login without a password, with an attribute that names the
// program.
func mysqlProbe(user, database string) string {
	const (
		longPassword, withDB, protocol41    = 1 << 0, 1 << 3, 1 << 9
		transactions, secure, plugin, attrs = 1 << 13, 1 << 15, 1 << 19, 1 << 20
		utf8mb4                             = 45
		name                                = "program_name"
	)
	caps := uint32(longPassword | protocol41 | transactions | secure | plugin | attrs)
	if database != "" {
		caps |= withDB
	}
	b := binary.LittleEndian.AppendUint32(nil, caps)
	b = binary.LittleEndian.AppendUint32(b, 1<<24) // the largest packet
	b = append(append(b, utf8mb4), make([]byte, 23)...)
	b = append(append(b, bounded(user)...), 0, 0) // no password
	if database != "" {
		b = append(append(b, bounded(database)...), 0)
	}
	b = append(append(b, "mysql_native_password"...), 0)
	b = append(b, byte(2+len(name)+len(probeMark)), byte(len(name)))
	b = append(append(append(b, name...), byte(len(probeMark))), probeMark...)
	return string([]byte{byte(len(b)), byte(len(b) >> 8), 0, 1}) + string(b)
}

// Capabilities and states of the server, and the commands of a client. Source:
// MySQL source documentation, "Capabilities Flags", "SERVER_STATUS_flags_enum",
// "Command Phase" and "Text Resultset".
const (
	mysqlCompress     = 1 << 5
	mysqlProtocol41   = 1 << 9
	mysqlDeprecateEOF = 1 << 24
	mysqlZstd         = 1 << 26

	mysqlInTrans         = 1 << 0
	mysqlMoreResults     = 1 << 3
	mysqlCursor          = 1 << 6
	mysqlInTransReadonly = 1 << 13

	mysqlEOF      = 0xfe
	mysqlFromFile = 0xfb      // the client is to send a file
	mysqlKept     = 256       // of a packet's content: the greeting has the version before its capabilities
	mysqlFull     = 1<<24 - 1 // the size of a packet that another one continues
)

// mysqlFollower reads the heads of a connection's packets. It does not know
// locks, whose end with the connection a client cannot see either way.
type mysqlFollower struct {
	unreadable bool
	offered    uint32 // the server's capabilities
	greeted    bool
	agreed     uint32 // capabilities of both
	answered   bool   // the client has answered the greeting
	loggedIn   bool

	due   []byte // the commands whose answers are due, in their order
	state int    // of the first of these answers
	left  uint64 // packets until the state changes
	long  bool   // the client has sent a part of a statement to come

	known  bool   // status is: an error has none
	status uint16 // what the server said of itself last

	from, to mysqlStream
}

// The states of an answer.
const (
	mysqlBegins   = iota
	mysqlColumns  // definitions follow, and then rows
	mysqlRows     // rows follow, until an EOF or an error
	mysqlPrepared // definitions follow, and then nothing
)

func followMySQL() follower { return &mysqlFollower{} }

// mysqlStream is where in a stream of packets one side is.
type mysqlStream struct {
	head      []byte // of the packet that is passing, and the beginning of its content
	left      int    // bytes of it to come
	continues bool   // the next packet continues the last one
}

func (s *mysqlStream) whole() bool { return len(s.head) == 0 && !s.continues }

// read calls packet for each packet that has passed, with its number, its size
// and the beginning of its content.
func (s *mysqlStream) read(said []byte, packet func(number byte, size int, body []byte)) {
	for len(said) > 0 {
		if len(s.head) < mysqlHead {
			n := min(mysqlHead-len(s.head), len(said))
			s.head, said = append(s.head, said[:n]...), said[n:]
			if len(s.head) < mysqlHead {
				return
			}
			s.left = mysqlSize(s.head)
		}
		n := min(s.left, len(said))
		s.head = append(s.head, said[:min(n, mysqlHead+mysqlKept-len(s.head))]...)
		s.left, said = s.left-n, said[n:]
		if s.left > 0 {
			return
		}
		size, first := mysqlSize(s.head), !s.continues
		s.continues = size == mysqlFull
		if first {
			packet(s.head[3], size, s.head[mysqlHead:])
		}
		s.head = s.head[:0]
	}
}

// Client follows what the client says.
func (m *mysqlFollower) Client(said []byte) {
	if m.unreadable {
		return
	}
	m.from.read(said, func(number byte, size int, body []byte) {
		switch {
		case m.unreadable:
		case m.loggedIn:
			m.unreadable = number != 0 || size == 0 || !m.command(body[0])
		case m.answered: // a password
			m.unreadable = number == 0
		default: // an SSLRequest is as long as mysqlSSLRequest
			m.answered = true
			m.unreadable = number != 1 || size <= mysqlSSLRequest || !m.agree(binary.LittleEndian.Uint32(body))
		}
	})
}

// agree notes the capabilities, and reports whether packets with them are
// readable.
func (m *mysqlFollower) agree(caps uint32) bool {
	m.agreed = caps & m.offered
	return m.agreed&mysqlProtocol41 != 0 && caps&(mysqlCompress|mysqlZstd) == 0
}

// The commands of a client.
const (
	mysqlQuery      = 0x03
	mysqlFields     = 0x04
	mysqlStatistics = 0x09
	mysqlPrepare    = 0x16
	mysqlExecute    = 0x17
	mysqlLongData   = 0x18
	mysqlCloseStmt  = 0x19
)

// command notes a command, and reports whether its answer is known.
func (m *mysqlFollower) command(name byte) bool {
	m.long = name == mysqlLongData
	switch name {
	case mysqlLongData, mysqlCloseStmt: // which are not answered
		return true
	case 0x02, 0x05, 0x06, 0x07, 0x0c, 0x0d, 0x0e, 0x1a, 0x1b, 0x1f, // answered by OK, EOF or an error
		mysqlQuery, mysqlFields, mysqlStatistics, mysqlPrepare, mysqlExecute:
		m.due = append(m.due, name)
		return true
	default:
		return false
	}
}

// Server follows what the client got.
func (m *mysqlFollower) Server(said []byte) {
	if m.unreadable {
		return
	}
	m.to.read(said, func(_ byte, size int, body []byte) {
		switch {
		case m.unreadable:
		case size == 0:
			m.unreadable = true
		case !m.greeted:
			m.greeted = true
			m.unreadable = !m.greeting(body)
		case !m.loggedIn:
			m.loggedIn, m.unreadable = body[0] == mysqlOK, body[0] == mysqlErr
			m.known = true // no transaction is open yet
		case len(m.due) == 0:
			m.unreadable = true
		case m.answer(size, body):
			m.due, m.state = m.due[1:], mysqlBegins
		}
	})
}

// greeting notes what the server can do.
func (m *mysqlFollower) greeting(body []byte) bool {
	at := mysqlCapabilities(append(make([]byte, mysqlHead), body...)) - mysqlHead
	if at < 0 {
		return false
	}
	m.offered = uint32(binary.LittleEndian.Uint16(body[at:]))
	if upper := at + 2 + 1 + 2; len(body) >= upper+2 { // after the character set and the status
		m.offered |= uint32(binary.LittleEndian.Uint16(body[upper:])) << 16
	}
	return true
}

// answer follows an answer by one packet, and reports whether it was the last.
func (m *mysqlFollower) answer(size int, body []byte) (last bool) {
	isEOF := body[0] == mysqlEOF && size < mysqlFull && (size == 5 || m.agreed&mysqlDeprecateEOF != 0)
	switch m.state {
	case mysqlBegins:
		return m.begins(size, body, isEOF)
	case mysqlColumns, mysqlPrepared:
		if m.left--; m.left > 0 {
			return false
		}
		if m.state == mysqlPrepared {
			return true
		}
		m.state = mysqlRows
		m.unreadable = isEOF && len(body) >= 5 && binary.LittleEndian.Uint16(body[3:])&mysqlCursor != 0
		return false
	default:
		switch {
		case body[0] == mysqlErr:
			m.known = false
			return true
		case isEOF:
			return m.ends(size, body)
		}
		return false
	}
}

// begins follows an answer by its first packet.
func (m *mysqlFollower) begins(size int, body []byte, isEOF bool) (last bool) {
	command := m.due[0]
	switch {
	case command == mysqlStatistics:
		return true
	case body[0] == mysqlErr:
		m.known = false
		return true
	case isEOF:
		return m.ends(size, body)
	case command == mysqlFields:
		m.state = mysqlRows
		return false
	case command == mysqlPrepare && body[0] == mysqlOK && size >= 9:
		for _, at := range []int{5, 7} { // the numbers of columns and of parameters
			m.left += m.definitions(uint64(binary.LittleEndian.Uint16(body[at:])))
		}
		m.state = mysqlPrepared
		return m.left == 0
	case body[0] == mysqlOK:
		return m.ends(size, body)
	}
	columns, n := mysqlNumber(body)
	// A file is asked for, or more follows than berth knows.
	if body[0] == mysqlFromFile || n != size || command != mysqlQuery && command != mysqlExecute {
		m.unreadable = true
		return false
	}
	m.left, m.state = m.definitions(columns), mysqlColumns
	return false
}

// definitions returns how many packets n definitions are.
func (m *mysqlFollower) definitions(n uint64) uint64 {
	if n > 0 && m.agreed&mysqlDeprecateEOF == 0 {
		n++
	}
	return n
}

// ends notes the status in an OK or EOF, and reports whether no further result
// follows.
func (m *mysqlFollower) ends(size int, body []byte) (last bool) {
	at := 3 // of an EOF, after the warnings
	if size != 5 || body[0] == mysqlOK {
		at = 1
		for range 2 { // rows, and the newest number
			_, n := mysqlNumber(body[min(at, len(body)):])
			at += n
		}
	}
	m.known = len(body) >= at+2
	if !m.known {
		return true
	}
	m.status = binary.LittleEndian.Uint16(body[at:])
	m.unreadable = m.status&mysqlCursor != 0 // nothing says when its end has come
	m.state = mysqlBegins
	return m.status&mysqlMoreResults == 0
}

// mysqlNumber reads a number of variable length, and returns how long that is;
// beyond every packet where it is none.
func mysqlNumber(b []byte) (value uint64, n int) {
	if len(b) == 0 {
		return 0, math.MaxInt32
	}
	size := map[byte]int{0xfc: 2, 0xfd: 3, 0xfe: 8}[b[0]]
	switch {
	case b[0] < 0xfb:
		return uint64(b[0]), 1
	case size == 0 || len(b) < 1+size:
		return 0, math.MaxInt32
	}
	var whole [8]byte
	copy(whole[:], b[1:1+size])
	return binary.LittleEndian.Uint64(whole[:]), 1 + size
}

// AtRest reports whether nothing is under way, and no transaction is open.
func (m *mysqlFollower) AtRest() bool {
	return m.loggedIn && !m.unreadable && len(m.due) == 0 && !m.long && m.known &&
		m.status&(mysqlInTrans|mysqlInTransReadonly) == 0 && m.from.whole() && m.to.whole()
}

// mysqlFarewell is what a server says that shuts down: the first packet of its
// own accord, with the number 0. Drivers take its SQLSTATE for the end of a
// connection.
func mysqlFarewell(r Refusal) []byte {
	const shutdown, state = 1053, "#08S01" // ER_SERVER_SHUTDOWN
	text := state + r.line(mysqlTextMax-len(state))
	size := 3 + len(text)
	packet := []byte{byte(size), byte(size >> 8), byte(size >> 16), 0, mysqlErr}
	return append(binary.LittleEndian.AppendUint16(packet, shutdown), text...)
}
