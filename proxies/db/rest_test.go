package db

import (
	"slices"
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
	type step struct {
		client, server []byte
		rest           bool
	}
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
	for name, steps := range tests {
		for _, piece := range []int{1 << 20, 1} {
			t.Run(name, func(t *testing.T) {
				r := postgres.Rest("title", "text", "hint")
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
	if mysql.Rest("", "", "") != nil {
		t.Error("a protocol that berth cannot follow is followed")
	}
}
