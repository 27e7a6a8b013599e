package db

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// said is one message, or several, of a side.
func said(t *testing.T, messages ...interface {
	Encode([]byte) ([]byte, error)
}) []byte {
	t.Helper()
	var b []byte
	for _, m := range messages {
		var err error
		if b, err = m.Encode(b); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// TestPostgresAtRest follows connections, in one piece and byte by byte.
func TestPostgresAtRest(t *testing.T) {
	startup := said(t, &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber, Parameters: map[string]string{"user": "a"}})
	ready := func(status byte) []byte { return said(t, &pgproto3.ReadyForQuery{TxStatus: status}) }
	login := said(t, &pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "a", Value: "b"}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	query := said(t, &pgproto3.Query{String: "select 1"})
	rows := said(t, &pgproto3.DataRow{Values: [][]byte{[]byte("1")}}, &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
	notice := said(t, &pgproto3.NotificationResponse{Channel: "c"})
	parse, sync := said(t, &pgproto3.Parse{Query: "select 1"}), said(t, &pgproto3.Sync{})
	begun := []step{{client: startup}, {server: login, rest: true}}
	tests := map[string][]step{
		"login":           begun,
		"encryption":      append([]step{{client: []byte(pgAsksGSSENC)}, {server: []byte("N")}}, begun...),
		"query":           append(slices.Clone(begun), step{client: query}, step{server: rows}, step{server: ready('I'), rest: true}),
		"transaction":     append(slices.Clone(begun), step{client: query}, step{server: slices.Concat(rows, ready('T'))}),
		"failed":          append(slices.Clone(begun), step{client: query}, step{server: ready('E')}),
		"pipeline":        append(slices.Clone(begun), step{client: slices.Concat(query, query)}, step{server: ready('I')}, step{server: ready('I'), rest: true}),
		"extended":        append(slices.Clone(begun), step{client: parse}, step{client: sync}, step{server: ready('I'), rest: true}),
		"without_sync":    append(slices.Clone(begun), step{client: query}, step{server: ready('I'), rest: true}, step{client: parse}),
		"half_a_message":  append(slices.Clone(begun), step{client: query[:3]}),
		"half_an_answer":  append(slices.Clone(begun), step{server: notice[:7]}, step{server: notice[7:], rest: true}),
		"answer_and_next": append(slices.Clone(begun), step{client: query}, step{client: query}, step{server: ready('I')}),
		"cancel":          {{client: []byte("\x00\x00\x00\x10\x04\xd2\x16\x2e12345678")}},
		"tls":             {{client: []byte(pgAsksTLS)}, {server: []byte("S\x16\x03\x01")}},
		"garbage":         append(slices.Clone(begun), step{client: []byte("GET / HTTP/1.1\r\n")}),
	}
	followed(t, postgres, tests)
}

// step is what one side says, and then the other; rest says whether the connection
// is at rest then.
type step struct {
	client, server []byte
	rest           bool
}

// followed follows connections of a protocol, in one piece and byte by byte.
func followed(t *testing.T, p Protocol, tests map[string][]step) {
	t.Helper()
	for name, steps := range tests {
		for _, piece := range []int{1 << 20, 1} {
			t.Run(name, func(t *testing.T) {
				r := p.Rest(Refusal{Title: "title", Text: "text", Hint: "hint"})
				for i, s := range steps {
					for part := range slices.Chunk(s.client, piece) {
						r.Client(part)
					}
					for part := range slices.Chunk(s.server, piece) {
						r.Server(part)
					}
					if got := r.AtRest(); got != s.rest {
						t.Errorf("after step %d, in pieces of %d: at rest %v, want %v", i, piece, got, s.rest)
					}
				}
			})
		}
	}
}

// mysqlPackets are packets in a row, from a number on.
func mysqlPackets(number byte, bodies ...string) []byte {
	var b []byte
	for _, body := range bodies {
		b = append(append(b, byte(len(body)), byte(len(body)>>8), byte(len(body)>>16), number), body...)
		number++
	}
	return b
}

func TestMySQLAtRest(t *testing.T) {
	t.Parallel()
	const (
		ok, inTrans = "\x00\x00\x00\x02\x00\x00\x00", "\x00\x00\x00\x03\x00\x00\x00"
		eof, more   = "\xfe\x00\x00\x02\x00", "\xfe\x00\x00\x0a\x00"
		okEOF       = "\xfe\x00\x00\x02\x00\x00\x00" // of a server that deprecates EOF
		cursor      = "\xfe\x00\x00\x42\x00"
		bad         = "\xff\x15\x04#28000no"
		column      = "\x03def\x00\x00\x00\x01a\x00"
		query       = "\x03select 1"
	)
	// capabilities, of 4.1 and the newer end of rows
	greet := func(upper byte) []byte {
		return mysqlPackets(0, "\x0a8.0.0\x00abcdsaltsalt\x00\x00\x02\x21\x02\x00\x00"+string([]byte{upper})+"\x15"+strings.Repeat("\x00", 23))
	}
	login := func(lower, upper byte) []byte {
		return mysqlPackets(1, string([]byte{lower, 0x02, 0, upper})+strings.Repeat("\x00", 40))
	}
	old := []step{{server: greet(0)}, {client: login(0, 0)}, {server: mysqlPackets(2, "\x00\x00\x00"), rest: true}}
	newer := []step{{server: greet(1)}, {client: login(0, 1)}, {server: mysqlPackets(2, ok), rest: true}}
	ask := func(begun []step, commands ...string) []step {
		next := step{}
		for _, c := range commands {
			next.client = append(next.client, mysqlPackets(0, c)...)
		}
		return append(slices.Clone(begun), next)
	}
	answered := func(begun []step, rest bool, bodies ...string) []step {
		return append(begun, step{server: mysqlPackets(1, bodies...), rest: rest})
	}
	followed(t, mysql, map[string][]step{
		"login":             old,
		"login_newer":       newer,
		"password":          {{server: greet(0)}, {client: login(0, 0)}, {server: mysqlPackets(2, "\xfeplugin")}, {client: mysqlPackets(3, "secret")}, {server: mysqlPackets(4, ok), rest: true}},
		"refused":           {{server: greet(0)}, {client: login(0, 0)}, {server: mysqlPackets(2, bad)}},
		"compressed":        {{server: greet(0)}, {client: login(1<<5, 0)}, {server: mysqlPackets(2, ok)}},
		"tls":               {{server: greet(0)}, {client: mysqlPackets(1, "\x00\x0a\x00\x00"+strings.Repeat("\x00", 28))}},
		"ok":                answered(ask(old, query), true, ok),
		"rows":              answered(ask(old, query), true, "\x01", column, eof, "\x011", "\x012", eof),
		"rows_begin":        answered(ask(old, query), false, "\x01", column, eof),
		"rows_newer":        answered(ask(newer, query), true, "\x01", column, "\x011", okEOF),
		"rows_begin_newer":  answered(ask(newer, query), false, "\x01", column),
		"no_rows_newer":     answered(ask(newer, query), true, "\x02", column, column, okEOF),
		"rows_fail":         answered(answered(ask(old, query), false, "\x01", column, eof, bad), false),
		"transaction":       answered(ask(old, query), false, inTrans),
		"transaction_ends":  answered(ask(answered(ask(old, query), false, inTrans), query), true, ok),
		"an_error_says_not": answered(ask(old, query), false, bad),
		"error_then_ping":   answered(ask(answered(ask(old, query), false, bad), "\x0e"), true, ok),
		"more_results":      answered(answered(ask(old, query), false, "\x01", column, eof, more), true, ok),
		"pipeline":          answered(answered(ask(old, query, query), false, ok), true, ok),
		"prepare":           answered(ask(old, "\x16select ?"), true, "\x00\x01\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00", column, eof, column, eof),
		"prepare_half":      answered(ask(old, "\x16select ?"), false, "\x00\x01\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00", column, eof, column),
		"prepare_newer":     answered(ask(newer, "\x16select ?"), true, "\x00\x01\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00", column, column),
		"prepare_nothing":   answered(ask(old, "\x16do 1"), true, "\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		"execute":           answered(ask(old, "\x17\x01"), true, "\x01", column, eof, "\x00\x00\x01", eof),
		"cursor":            answered(ask(old, "\x17\x01"), false, "\x01", column, cursor),
		"long_data":         ask(old, "\x18\x01"),
		"close_statement":   append(slices.Clone(old), step{client: mysqlPackets(0, "\x19\x01"), rest: true}),
		"fields":            answered(ask(old, "\x04t"), true, column, eof),
		"statistics":        answered(ask(old, "\x09"), true, "Uptime: 1"),
		"file":              answered(ask(old, query), false, "\xfb/etc/passwd"),
		"change_user":       ask(old, "\x11app"),
		"unasked":           append(slices.Clone(old), step{server: mysqlPackets(0, bad)}),
		"half_a_command":    append(slices.Clone(old), step{client: mysqlPackets(0, query)[:4]}),
		"big_row": answered(append(ask(old, query), step{server: append(mysqlPackets(1, "\x01", column, eof), append(
			mysqlPackets(4, "\xfd"+strings.Repeat("x", 1<<24-2)), mysqlPackets(5, "\xfe\x00\x00\x02\x00")...)...)}), true, eof),
	})
}

func TestRedisAtRest(t *testing.T) {
	get := []byte("*2\r\n$3\r\nGET\r\n$1\r\na\r\n")
	multi, exec := []byte("*1\r\n$5\r\nmulti\r\n"), []byte("*1\r\n$4\r\nEXEC\r\n")
	ok := []byte("+OK\r\n")
	followed(t, redis, map[string][]step{
		"nothing":      {{rest: true}},
		"one":          {{client: get}, {server: []byte("$1\r\nx\r\n"), rest: true}},
		"null":         {{client: get}, {server: []byte("$-1\r\n"), rest: true}},
		"error":        {{client: get}, {server: []byte("-ERR no\r\n"), rest: true}},
		"half":         {{client: get}, {server: []byte("$1\r\nx")}},
		"half_command": {{client: get[:9]}},
		"pipeline":     {{client: slices.Concat(get, get)}, {server: []byte(":1\r\n")}, {server: []byte(":2\r\n"), rest: true}},
		"array":        {{client: get}, {server: []byte("*2\r\n*1\r\n:1\r\n$0\r\n")}, {server: []byte("\r\n"), rest: true}},
		"empty_arrays": {{client: get}, {server: []byte("*2\r\n*0\r\n*-1\r\n"), rest: true}},
		"map":          {{client: get}, {server: []byte("%1\r\n+a\r\n"), rest: false}, {server: []byte("#t\r\n"), rest: true}},
		"push":         {{client: get}, {server: []byte(">2\r\n+invalidate\r\n*1\r\n$1\r\na\r\n")}, {server: ok, rest: true}},
		"multi":        {{client: multi}, {server: ok}, {client: get}, {server: []byte("+QUEUED\r\n")}, {client: exec}, {server: []byte("*1\r\n:1\r\n"), rest: true}},
		"watch":        {{client: []byte("*2\r\n$5\r\nWATCH\r\n$1\r\na\r\n")}, {server: ok}, {client: []byte("*1\r\n$7\r\nUNWATCH\r\n")}, {server: ok, rest: true}},
		"subscribe":    {{client: []byte("*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n")}, {server: []byte("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n")}},
		"no_replies":   {{client: []byte("*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n")}},
		"set_name":     {{client: []byte("*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$1\r\na\r\n")}, {server: ok, rest: true}},
		"inline":       {{client: []byte("PING\r\n")}, {server: []byte("+PONG\r\n")}},
		"unasked":      {{server: ok}},
		"too_deep":     {{client: get}, {server: []byte(strings.Repeat("*1\r\n", 40) + ":1\r\n")}},
	})
}

// TestFarewells: each protocol's is what its servers say, and one that berth cannot
// follow has none.
func TestFarewells(t *testing.T) {
	why := Refusal{Title: "title", Text: "text", Hint: "hint"}
	if got := postgres.Rest(why).Farewell(); !bytes.Contains(got, []byte("C57P01\x00Mtitle\x00Dtext\x00Hhint\x00")) {
		t.Errorf("Postgres: %q", got)
	}
	if got := string(mariadb.Rest(why).Farewell()); got != "\x20\x00\x00\x00\xff\x1d\x04#08S01title: text. Hint: hint" {
		t.Errorf("MySQL: %q", got)
	}
	if got := redis.Rest(why).Farewell(); len(got) != 0 {
		t.Errorf("Redis: %q", got)
	}
	if mongodb.Rest(why) != nil {
		t.Error("a protocol that berth cannot follow is followed")
	}
}
