package db

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
)

var clickhouse = Protocol{
	Name:        "clickhouse",
	Title:       "ClickHouse",
	ALPN:        "teleport-clickhouse",
	Native:      true,
	NeedsDBUser: true,
	guess:       isClickHouse,
	opens:       opensBy(2, isClickHouseOrHTTP),
	answers:     clickHouseAnswers,
	login:       clickHouseProbe,
	refuse:      refuseClickHouse,
	secure:      secureHTTP, // one database has both protocols
	client: client{
		text: map[Format]func(Endpoint) string{URL: clickhouseURL},
		noCA: httpNoCA,
		env: func(e Endpoint) []string {
			return nonEmpty("CLICKHOUSE_HOST", e.Host, "CLICKHOUSE_PORT", e.port(), "CLICKHOUSE_USER", e.DBUser,
				"CLICKHOUSE_DATABASE", e.DBName, "DATABASE_URL", clickhouseURL(e))
		},
		clear:   []string{"CLICKHOUSE_PASSWORD", "CLICKHOUSE_SECURE", "CLICKHOUSE_URL"},
		command: func(e Endpoint) []string { return append([]string{"clickhouse-client"}, clickhouseArgs(e)...) },
		usual:   []string{"clickhouse-client"},
		programs: []program{
			{names: []string{"clickhouse-client"}, args: clickhouseWithoutTLS},
			{names: []string{"clickhouse-benchmark"}, args: always(clickhouseArgs)},
			{names: []string{"clickhouse"}, args: clickhouseToolArgs, leading: func(given []string) int {
				return min(len(given), 1)
			}},
		},
	},
}

var clickhouseHTTP = Protocol{
	Name:        "clickhouse-http",
	Title:       "ClickHouse (HTTP)",
	ALPN:        "teleport-clickhouse",
	Native:      true,
	NeedsDBUser: true,
	opens:       httpOpens,
	answers:     httpAnswers,
	login:       httpProbe,
	refuse:      refuseHTTP(clickHousePage),
	secure:      secureHTTP,
	client: client{
		text: map[Format]func(Endpoint) string{
			URL: httpURL,
			JDBC: func(e Endpoint) string {
				return jdbcURL("clickhouse", e, e.DBName, append([]string{"user", e.DBUser},
					e.secure([]string{"ssl", "true", "sslmode", "strict", "sslrootcert", e.CA}, []string{"ssl", "false"})...)...)
			},
		},
		noCA:    httpNoCA,
		env:     func(e Endpoint) []string { return []string{"CLICKHOUSE_URL=" + httpURL(e)} },
		clear:   []string{"CLICKHOUSE_HOST", "CLICKHOUSE_PORT", "CLICKHOUSE_PASSWORD", "CLICKHOUSE_SECURE"},
		command: curl,
	},
}

func clickhouseArgs(e Endpoint) []string {
	argv := args([]string{"--host", e.Host, "--port", e.port()}, "--user", e.DBUser)
	return args(argv, "--database", e.DBName)
}

// clickhouseToolArgs follow the tool's name, of those that are clients.
func clickhouseToolArgs(x execution) ([]string, error) {
	if len(x.given) == 0 || x.given[0] != "client" && x.given[0] != "benchmark" {
		return nil, &LeadError{Program: "clickhouse", Why: `reaches a server only as "clickhouse client" or "clickhouse benchmark"`}
	}
	if x.given[0] == "client" {
		return clickhouseWithoutTLS(x)
	}
	return clickhouseArgs(x.Endpoint), nil
}

// clickhouseTLS is what asks for TLS in a client's configuration.
var clickhouseTLS = regexp.MustCompile(`(?mi)<secure>\s*(1|true|yes|on)\b|^\s*secure:\s*(1|true|yes|on)\b`)

// clickhouseWithoutTLS are clickhouseArgs, and a configuration of berth's where the
// user's own asks for TLS: no argument takes that back.
func clickhouseWithoutTLS(x execution) ([]string, error) {
	argv := clickhouseArgs(x.Endpoint)
	var files []string
	for _, ext := range []string{".xml", ".yaml", ".yml"} {
		files = append(files, ".clickhouse-client/config"+ext, ".config/clickhouse/config"+ext, "/etc/clickhouse-client/config"+ext)
		if here, err := filepath.Abs("clickhouse-client" + ext); err == nil {
			files = append(files, here)
		}
	}
	if len(x.own(clickhouseTLS, files...)) == 0 {
		return argv, nil
	}
	file, err := x.write("clickhouse.xml", "<config><secure>0</secure></config>\n")
	return append(argv, "--config-file="+file), err
}

func clickhouseURL(e Endpoint) string {
	return makeURL("clickhouse", e.DBUser, e, e.DBName, e.secure([]string{"secure", "true"}, nil)...)
}

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

// clickHouseProbe is a client's hello, of a version that every server of today knows.
func clickHouseProbe(user, database string) string {
	const major, minor, revision = 24, 8, 54451
	text := func(b []byte, s string) []byte {
		return append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	b := text([]byte{chHello}, probeMark)
	for _, n := range []uint64{major, minor, revision} {
		b = binary.AppendUvarint(b, n)
	}
	b = text(text(b, cmp.Or(database, "default")), user)
	return string(text(b, "")) // no password
}

// clickHousePage is an exception of ClickHouse. Source: ClickHouse
// documentation, "HTTP Interface".
func clickHousePage(r Refusal) page {
	code, name := clickHouseCode(r.Kind)
	return page{
		status: httpStatus(r.Kind), contentType: "text/plain; charset=UTF-8",
		header: map[string]string{"X-ClickHouse-Exception-Code": strconv.Itoa(code)},
		body:   fmt.Sprintf("Code: %d. DB::Exception: %s (%s)\n", code, r.wholeLine(), name),
	}
}

// isClickHouse knows a hello by its code; the client's name follows, with its
// length before it.
func isClickHouse(first []byte) bool { return len(first) >= 2 && first[0] == chHello }

// isClickHouseOrHTTP knows both ways to speak with the database; no client's name
// is empty.
func isClickHouseOrHTTP(first []byte) bool {
	return isClickHouse(first) && first[1] != 0 || first[0] >= 'A' && first[0] <= 'Z' && httpOpens(first) != verdictForeign
}

// clickHouseAnswers looks at the answer to the client's hello: a hello, or an
// exception.
func clickHouseAnswers(said, client []byte, ended bool) answer {
	if len(client) > 0 && client[0] != chHello {
		return httpAnswers(said, client, ended)
	}
	switch {
	case len(said) == 0:
		return answer{}
	case said[0] != chException:
		return served
	}
	rest := said[min(len(said), 1+4):] // the code
	var words string
	for range 2 { // the exception's name, and its text
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return answer{}
		}
		words, rest = string(rest[n:n+int(size)]), rest[n+int(size):]
	}
	return answer{refused: refusedBy(ByDatabase, words)}
}
