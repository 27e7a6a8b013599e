package db

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5/pgproto3"
)

var postgres = Protocol{
	Name:     "postgres",
	Title:    "PostgreSQL",
	ALPN:     "teleport-postgres",
	Native:   true,
	Warm:     true,
	hello:    pgHello,
	helloOwn: pgHelloOwn,
	guess:    isPostgres,
	opens:    pgOpens,
	answers:  pgAnswers,
	login:    pgLogin,
	logout:   "X\x00\x00\x00\x04",
	names:    pgNames,
	retell:   pgRetell,
	refuse:   refusePostgres,
	secure:   securePostgres,
	follow:   followPostgres,
	farewell: pgFarewell,
	client:   pgClient,
}

// cockroachdb speaks Postgres' protocol.
var cockroachdb = postgres.alias("cockroachdb", "CockroachDB", cockroachClient())

// cockroachClient has CockroachDB's own program too, which obeys one variable
// before all others.
func cockroachClient() client {
	c := pgClient
	c.env = func(e Endpoint) []string { return append(pgClient.env(e), "COCKROACH_URL="+postgresURL(e)) }
	c.programs = append(slices.Clone(c.programs), program{names: []string{"cockroach"}})
	return c
}

// pgHello asks for GSSAPI encryption, which Teleport declines before it looks at
// anything else. A tunnel declines the first request itself, and passes on the
// second.
const pgHello, pgHelloOwn = pgAsksGSSENC + pgAsksGSSENC, 1

var pgClient = client{
	text: map[Format]func(Endpoint) string{
		URL: postgresURL,
		JDBC: func(e Endpoint) string {
			return jdbcURL("postgresql", e, e.DBName, append([]string{"user", e.DBUser}, pgTLS(e)...)...)
		},
		DSN: func(e Endpoint) string {
			vars := append(nonEmpty("host", e.Host, "port", e.port(), "user", e.DBUser, "dbname", e.DBName), nonEmpty(pgTLS(e)...)...)
			for i, kv := range vars {
				key, value, _ := strings.Cut(kv, "=")
				vars[i] = key + "=" + libpqQuote(value)
			}
			return strings.Join(vars, " ")
		},
		PGService: func(e Endpoint) string {
			lines := nonEmpty("host", e.Host, "port", e.port(), "user", e.DBUser, "dbname", e.DBName)
			return "[" + e.TunnelName + "]\n" + strings.Join(append(lines, nonEmpty(pgTLS(e)...)...), "\n")
		},
	},
	env: func(e Endpoint) []string {
		return nonEmpty("PGHOST", e.Host, "PGPORT", e.port(), "PGUSER", e.DBUser, "PGDATABASE", e.DBName,
			"PGSSLMODE", pgTLS(e)[1], "PGSSLROOTCERT", e.CA,
			"PGGSSENCMODE", "disable", // with a Kerberos ticket libpq would ask for it first
			"DATABASE_URL", postgresURL(e))
	},
	clear: []string{
		// where to
		"PGHOSTADDR", "PGSERVICE", "PGCLUSTER", "PGTARGETSESSIONATTRS", "PGLOADBALANCEHOSTS", "PGREQUIREPEER",
		// how to be sure of a server that berth speaks for
		"PGPASSWORD", "PGREQUIREAUTH", "PGCHANNELBINDING", "PGKRBSRVNAME", "PGREALM", "PGGSS*", "PGOAUTH*",
		"PGREQUIRESSL", "PGSSL*", "PGMINPROTOCOLVERSION", "PGMAXPROTOCOLVERSION",
		"COCKROACH_*",
		// what frameworks read beside DATABASE_URL
		"POSTGRES_URL", "POSTGRESQL_URL",
	},
	command: func(e Endpoint) []string {
		return []string{"psql", postgresURL(e)}
	},
	programs: []program{
		{names: []string{
			"psql", "clusterdb", "createdb", "createuser", "dropdb", "dropuser", "oid2name", "pg_amcheck", "pg_basebackup",
			"pg_dump", "pg_dumpall", "pg_isready", "pg_receivewal", "pg_recvlogical", "pg_restore", "pgbench", "reindexdb",
			"vacuumdb", "vacuumlo", "pg_activity", "pg_top", "pg_prove",
		}},
		{names: []string{"pgcli"}, clear: []string{"DSN"}},
	},
	refuse: func(e Endpoint, f Format) error {
		switch {
		case f != PGService:
		case e.TunnelName == "" || strings.ContainsAny(e.TunnelName, "[]") || edged(e.TunnelName):
			return fmt.Errorf("%q cannot name a section of a service file", e.TunnelName)
		case edged(e.DBUser):
			return fmt.Errorf("a service file cannot hold the user %q: spaces at its ends are lost", e.DBUser)
		case edged(e.DBName):
			return fmt.Errorf("a service file cannot hold the database %q: spaces at its ends are lost", e.DBName)
		}
		return nil
	},
}

func postgresURL(e Endpoint) string {
	return makeURL("postgres", e.DBUser, e, e.DBName, pgTLS(e)...)
}

// pgTLS are the parameters that decide about TLS.
func pgTLS(e Endpoint) []string {
	return e.secure([]string{"sslmode", "verify-full", "sslrootcert", e.CA}, []string{"sslmode", "disable"})
}

// libpqQuote quotes a value of a libpq connection string.
func libpqQuote(s string) string {
	if s != "" && !strings.ContainsFunc(s, unicode.IsSpace) && !strings.ContainsAny(s, `'\`) {
		return s
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

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
		// Not cannot_connect_now: a client that connects to "localhost" would
		// try the tunnel's other address, and be held a second time.
		return "08004" // sqlserver_rejected_establishment_of_sqlconnection
	default:
		return "57P03" // cannot_connect_now
	}
}

// isPostgres knows a message by the length before it: four bytes, of which the
// first two are zero since no startup message is that long.
func isPostgres(first []byte) bool { return len(first) >= 2 && first[0] == 0 && first[1] == 0 }

// pgCancelMin is the length of a CancelRequest without its key: a length, a code
// and a process id. Keys have four bytes, and up to 256 since protocol 3.2.
const (
	pgCancelMin = 12
	pgKeyMax    = 256
)

// pgOpens knows the messages that a client may begin with. A CancelRequest,
// alone on its connection, is acted on and never answered.
func pgOpens(first []byte) verdict {
	for asked := false; ; asked = true {
		if len(first) < 8 {
			switch {
			case len(first) >= 2 && !isPostgres(first):
				return verdictForeign
			case asked && len(first) == 0:
				return verdictOurs
			default:
				return verdictShort
			}
		}
		size, code := binary.BigEndian.Uint32(first), binary.BigEndian.Uint32(first[4:])
		switch {
		case size == 8 && (code == pgSSL || code == pgGSSENC):
			first = first[8:]
		case code == pgCancel && size >= pgCancelMin && size <= pgCancelMin+pgKeyMax:
			return verdictMute
		case code>>16 == pgMajor && size > 8 && size <= pgStartupMax && len(first) < int(size):
			return verdictShort
		case code>>16 == pgMajor && size > 8 && size <= pgStartupMax:
			return verdictOurs
		default:
			return verdictForeign
		}
	}
}

// What a client may ask for before anything else: a length of eight bytes and
// the code.
const (
	pgAsksTLS    = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
	pgAsksGSSENC = "\x00\x00\x00\x08\x04\xd2\x16\x30"
)

// alpnPostgres is what clients offer since direct TLS came (sslnegotiation).
const alpnPostgres = "postgresql"

// securePostgres answers an SSLRequest. A client may ask for GSSAPI encryption
// before, which is declined as the server would, without asking it.
func securePostgres(f *Front) error {
	if f.said[0] != 0 {
		return f.direct(alpnPostgres)
	}
	if err := f.need(len(pgAsksTLS)); err != nil {
		return err
	}
	switch string(f.said[:len(pgAsksTLS)]) {
	case pgAsksGSSENC:
		if f.asked { // a client asks once: this is berth itself, see pgHello
			f.let(len(pgAsksGSSENC))
			return nil
		}
		f.asked = true
		return f.decline(len(pgAsksGSSENC))
	case pgAsksTLS:
		err := f.shake(handshake{skip: len(pgAsksTLS), answer: []byte{'S'}, protos: []string{alpnPostgres}})
		if _, no := errors.AsType[*noCertError](err); !no {
			return err
		}
		// The server would say the same, but some of them lose what follows at
		// once.
		return f.decline(len(pgAsksTLS))
	}
	f.plain()
	return nil
}

// decline says no to a request of so many bytes.
func (f *Front) decline(n int) error {
	f.said = f.said[n:]
	f.turn.Lock()
	defer f.turn.Unlock()
	_, err := f.tcp.Write([]byte{'N'})
	return err
}

// pgAnswers looks for the end of the start-up: the server is ready for a query,
// or an error. A server that asks for no password lets everybody in first, and
// looks for the role and the database after that. The bytes that decline
// encryption come before.
func pgAnswers(said, client []byte, ended bool) answer {
	at, letIn := 0, false
	for range pgAsked(client) {
		if at < len(said) && (said[at] == 'N' || said[at] == 'S') {
			at++
		}
	}
	for len(said)-at > 5 {
		end := at + 1 + int(binary.BigEndian.Uint32(said[at+1:]))
		if end < at+5 || end > at+hearMax {
			return served // nothing that berth knows
		}
		if len(said) < end {
			break
		}
		body := said[at+5 : end]
		switch said[at] {
		case 'R':
			letIn = letIn || len(body) >= 4 && binary.BigEndian.Uint32(body) == 0
		case 'E':
			return answer{refused: pgRefused(body), from: at, to: end}
		case 'v', 'N', 'S', 'K': // versions, notices, settings and the key come between
		default:
			return served
		}
		at = end
	}
	return answer{served: letIn && ended}
}

// pgRefused reads an ErrorResponse. Teleport's own has a message and nothing else.
func pgRefused(body []byte) *RefusedError {
	var msg pgproto3.ErrorResponse
	if err := msg.Decode(body); err != nil {
		return refusedBy(ByTeleport, "an error that cannot be read")
	}
	words := msg.Message
	if msg.Code != "" && !strings.HasPrefix(words, dbDenied) { // Teleport's own has a code where pgRetell has given it one
		// Classes 28, invalid authorization, and 3D, invalid catalog name.
		names := strings.HasPrefix(msg.Code, "28") || strings.HasPrefix(msg.Code, "3D")
		return refusedBy(ByDatabase, fmt.Sprintf("%s (SQLSTATE %s)", words, msg.Code)).because(msg.Code == "28P01", names)
	}
	return refusedBy(ByTeleport, words)
}

// pgRetell adds a hint to an ErrorResponse that has none.
func pgRetell(refusal []byte, hint string) []byte {
	var msg pgproto3.ErrorResponse
	if msg.Decode(refusal[5:]) != nil || msg.Hint != "" {
		return refusal
	}
	msg.Hint = hint
	if msg.Severity == "" { // drivers want one
		msg.Severity, msg.SeverityUnlocalized = "FATAL", "FATAL"
	}
	if msg.Code == "" {
		msg.Code = sqlState(RefusalDenied)
	}
	b, err := msg.Encode(nil)
	if err != nil {
		return refusal
	}
	return b
}

// pgAsked counts the requests for encryption that a client begins with.
func pgAsked(client []byte) int {
	n := 0
	for strings.HasPrefix(string(client), pgAsksTLS) || strings.HasPrefix(string(client), pgAsksGSSENC) {
		client = client[len(pgAsksTLS):]
		n++
	}
	return n
}

// pgNames returns what a StartupMessage names.
func pgNames(client []byte) (user, database string) {
	client = client[pgAsked(client)*len(pgAsksTLS):]
	if len(client) < 8 {
		return "", ""
	}
	end := min(len(client), max(8, int(binary.BigEndian.Uint32(client))))
	fields := strings.Split(string(client[8:end]), "\x00")
	for i := 0; i+1 < len(fields); i += 2 {
		switch fields[i] {
		case "user":
			user = fields[i+1]
		case "database":
			database = fields[i+1]
		}
	}
	return user, database
}

// pgLogin is a StartupMessage.
func pgLogin(user, database string) string {
	body := "\x00\x03\x00\x00user\x00" + bounded(user) + "\x00"
	if database != "" {
		body += "database\x00" + bounded(database) + "\x00"
	}
	body += "application_name\x00" + probeMark + "\x00\x00"
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4))) + body
}

// pgFollower reads the heads of a Postgres connection's messages.
type pgFollower struct {
	started    bool // the startup message has been seen
	unreadable bool
	declines   int  // answers of one byte that are due: the client asked for encryption
	due        int  // answers that end with ReadyForQuery
	open       bool // the client has begun what a Sync must end
	idle       bool // the last ReadyForQuery came outside of a transaction
	from       stream
	to         stream
}

func followPostgres() follower { return &pgFollower{} }

// stream is where in a stream of messages one side is.
type stream struct {
	head []byte // of the next message, as far as it has come
	left int    // bytes of the message that is passing
}

func (s *stream) whole() bool { return len(s.head) == 0 && s.left == 0 }

// read calls message with the type of each message and with its first byte of
// content, once all of that message has passed.
func (s *stream) read(said []byte, message func(kind, first byte)) {
	const head = 5 // type and length; the first byte of content is kept too
	for len(said) > 0 {
		if s.left == 0 {
			n := min(head-len(s.head), len(said))
			s.head, said = append(s.head, said[:n]...), said[n:]
			if len(s.head) < head {
				return
			}
			length := binary.BigEndian.Uint32(s.head[1:])
			if length < 4 || length > 1<<30 {
				message(0, 0)
				return
			}
			s.left = int(length) - 4
		} else {
			if len(s.head) == head {
				s.head = append(s.head, said[0])
			}
			n := min(s.left, len(said))
			s.left, said = s.left-n, said[n:]
		}
		if s.left == 0 {
			message(s.head[0], s.first())
			s.head = s.head[:0]
		}
	}
}

// first is the first byte of the message's content; zero where it has none.
func (s *stream) first() byte {
	if len(s.head) > 5 {
		return s.head[5]
	}
	return 0
}

// Client follows what the client says.
func (r *pgFollower) Client(said []byte) {
	for !r.started && len(said) > 0 && !r.unreadable {
		said = r.startup(said)
	}
	if r.unreadable || len(said) == 0 {
		return
	}
	r.idle = false
	r.from.read(said, func(kind, _ byte) {
		switch kind {
		case 'Q', 'F': // Query, FunctionCall
			r.due++
		case 'S': // Sync
			r.due++
			r.open = false
		case 'P', 'B', 'E', 'D', 'C', 'H': // what a Sync ends
			r.open = true
		case 'd', 'c', 'f', 'p', 'X': // of a copy, a password, the end
		default:
			r.unreadable = true
		}
	})
}

// startup follows what the client says before its messages have types, and
// returns what comes after.
func (r *pgFollower) startup(said []byte) []byte {
	s := &r.from
	if s.left > 0 {
		n := min(s.left, len(said))
		if s.left -= n; s.left == 0 {
			r.started, r.due = true, 1
		}
		return said[n:]
	}
	n := min(8-len(s.head), len(said))
	s.head, said = append(s.head, said[:n]...), said[n:]
	if len(s.head) < 8 {
		return said
	}
	size, code := binary.BigEndian.Uint32(s.head), binary.BigEndian.Uint32(s.head[4:])
	s.head = s.head[:0]
	switch {
	case size == 8 && (code == pgSSL || code == pgGSSENC):
		r.declines++
	case code>>16 == pgMajor && size > 8 && size <= pgStartupMax:
		s.left = int(size) - 8
	default:
		r.unreadable = true
	}
	return said
}

// Server follows what the client got.
func (r *pgFollower) Server(said []byte) {
	for ; r.declines > 0 && len(said) > 0; said = said[1:] {
		r.declines--
		if said[0] != 'N' {
			r.unreadable = true
		}
	}
	if r.unreadable {
		return
	}
	r.to.read(said, func(kind, first byte) {
		switch kind {
		case 0:
			r.unreadable = true
		case 'Z': // ReadyForQuery
			r.due--
			r.idle = first == 'I'
		}
	})
}

// AtRest reports whether nothing is under way, and no transaction is open.
func (r *pgFollower) AtRest() bool {
	return r.started && !r.unreadable && r.due == 0 && !r.open && r.idle && r.from.whole() && r.to.whole()
}

// pgFarewell is what a server says that shuts down.
func pgFarewell(r Refusal) []byte {
	b, err := (&pgproto3.ErrorResponse{
		Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P01", // admin_shutdown
		Message: r.Title, Detail: r.Text, Hint: r.Hint,
	}).Encode(nil)
	if err != nil {
		return nil // it is too long: the connection just ends
	}
	return b
}
