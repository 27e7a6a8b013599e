package db

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

var mongodb = Protocol{
	Name:        "mongodb",
	Title:       "MongoDB",
	ALPN:        "teleport-mongodb",
	Native:      true,
	NeedsDBUser: true,
	guess:       isMongoDB,
	opens:       opensBy(mongoHead, isMongoDB),
	answers:     mongoAnswers,
	login:       mongoProbe,
	refuse:      refuseMongoDB,
	secure:      secureDirect(),
	client:      mongoClient,
}

// mongoClient names no user: clients would try to log in as it.
var mongoClient = client{
	text: map[Format]func(Endpoint) string{URL: mongoURL},
	env: func(e Endpoint) []string {
		url := mongoURL(e)
		return []string{"MONGODB_URI=" + url, "MONGODB_URL=" + url, "MONGO_URL=" + url, "DATABASE_URL=" + url}
	},
	command: func(e Endpoint) []string { return []string{"mongosh", mongoURL(e)} },
	usual:   []string{"mongosh"},
	programs: []program{
		{names: []string{"mongosh", "mongo", "mongodb-compass"}, args: always(func(e Endpoint) []string { return []string{mongoURL(e)} })},
		{
			names: []string{"mongodump", "mongoexport", "mongofiles", "mongoimport", "mongorestore", "mongostat", "mongotop"},
			// The database is named by those who want one: all are dumped without.
			args: always(func(e Endpoint) []string { return []string{"--host=" + e.Host, "--port=" + e.port()} }),
		},
	},
}

func mongoURL(e Endpoint) string {
	u := makeURL("mongodb", "", e, e.DBName, append([]string{"directConnection", "true"},
		e.secure([]string{"tls", "true", "tlsCAFile", e.CA}, nil)...)...)
	if e.DBName == "" { // the slash before the question mark is required
		u = strings.Replace(u, "?", "/?", 1)
	}
	return u
}

// Messages by their code. Source: MongoDB Wire Protocol. Drivers say hello in
// the old form unless the user sets an API version.
const (
	mongoReply = 1
	mongoQuery = 2004
	mongoMsg   = 2013
	mongoHead  = 16 // length, request id, response to, code
)

// refuseMongoDB answers the client's hello with an error. A driver takes that
// for a server that is away for now, shows the text among the reasons when it
// has given up, and until then tries again: a login meanwhile saves the day.
func refuseMongoDB(client io.ReadWriter, r Refusal) error {
	var head [mongoHead]byte
	if _, err := io.ReadFull(client, head[:]); err != nil {
		return err
	}
	var (
		size = binary.LittleEndian.Uint32(head[0:])
		id   = head[4:8]
		code = binary.LittleEndian.Uint32(head[12:])
	)
	if code != mongoQuery && code != mongoMsg || size < mongoHead || size > refuseMax {
		return fmt.Errorf("%w: a message %d of %d bytes", errGarbage, code, size)
	}
	if _, err := io.CopyN(io.Discard, client, int64(size)-mongoHead); err != nil {
		return err
	}
	doc := mongoError(r)
	answer := append(make([]byte, 8), id...)
	if code == mongoMsg {
		answer = binary.LittleEndian.AppendUint32(answer, mongoMsg)
		answer = append(answer, 0, 0, 0, 0) // flags
		answer = append(answer, 0)          // a section that is one document
	} else {
		answer = binary.LittleEndian.AppendUint32(answer, mongoReply)
		answer = append(answer, make([]byte, 4+8+4)...) // flags, cursor, first document
		answer = append(answer, 1, 0, 0, 0)             // documents
	}
	answer = append(answer, doc...)
	binary.LittleEndian.PutUint32(answer, uint32(len(answer)))
	_, err := client.Write(answer)
	return err
}

// mongoError returns {ok: 0, errmsg: …, code: …, codeName: …} as BSON. The
// encoder of MongoDB's driver would do it too, for 0.8 MB more of binary.
func mongoError(r Refusal) []byte {
	code, name := mongoCode(r.Kind)
	key := func(b []byte, kind byte, name string) []byte { return append(append(append(b, kind), name...), 0) }
	text := func(b []byte, s string) []byte {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(s)+1))
		return append(append(b, s...), 0)
	}
	doc := make([]byte, 4)
	doc = binary.LittleEndian.AppendUint64(key(doc, 0x01, "ok"), math.Float64bits(0))
	doc = text(key(doc, 0x02, "errmsg"), r.wholeLine())
	doc = binary.LittleEndian.AppendUint32(key(doc, 0x10, "code"), code)
	doc = text(key(doc, 0x02, "codeName"), name)
	doc = append(doc, 0)
	binary.LittleEndian.PutUint32(doc, uint32(len(doc)))
	return doc
}

// mongoCode returns the error of a refusal. Source: error_codes.yml of
// MongoDB. None of them makes a driver retry a command by itself.
func mongoCode(kind RefusalKind) (uint32, string) {
	switch kind {
	case RefusalLogin, RefusalHoldEnded, RefusalMFA:
		return 18, "AuthenticationFailed"
	case RefusalDenied:
		return 13, "Unauthorized"
	case RefusalUnknown:
		return 26, "NamespaceNotFound"
	default:
		return 6, "HostUnreachable"
	}
}

// isMongoDB knows a message by its code: its length, which comes first, may be
// anything.
func isMongoDB(first []byte) bool {
	if len(first) < mongoHead {
		return false
	}
	size, code := binary.LittleEndian.Uint32(first), binary.LittleEndian.Uint32(first[12:])
	return (code == mongoQuery || code == mongoMsg) && size >= mongoHead && size <= refuseMax
}

// mongoAnswers looks at the answer to the client's hello.
func mongoAnswers(said, _ []byte, _ bool) answer {
	if len(said) < mongoHead {
		return answer{}
	}
	size, code := binary.LittleEndian.Uint32(said), binary.LittleEndian.Uint32(said[12:])
	if size < mongoHead || size > hearMax {
		return served // nothing that berth knows
	}
	if len(said) < int(size) {
		return answer{}
	}
	doc := said[mongoHead:size]
	switch {
	case code == mongoMsg && len(doc) > 5 && doc[4] == 0: // flags, and a section that is one document
		doc = doc[5:]
	case code == mongoReply && len(doc) > 20: // flags, cursor, first document, documents
		doc = doc[20:]
	default:
		return served
	}
	fields := mongoFields(doc)
	words, failed := fields["errmsg"]
	if !failed || fields["ok"] != "0" {
		if words, failed = fields["$err"]; !failed {
			return served
		}
	}
	by := ByTeleport
	if fields["code"] != "" { // Teleport's own errors have none
		by = ByDatabase
	}
	return answer{refused: refusedBy(by, words)}
}

// mongoProbe is a hello: Teleport answers none before it has logged in to the
// database itself.
func mongoProbe(string, string) string {
	element := func(kind byte, name string, value []byte) []byte {
		return append(append(append([]byte{kind}, name...), 0), value...)
	}
	text := func(s string) []byte {
		return append(append(binary.LittleEndian.AppendUint32(nil, uint32(len(s)+1)), s...), 0)
	}
	document := func(elements ...[]byte) []byte {
		all := append(slices.Concat(elements...), 0)
		return append(binary.LittleEndian.AppendUint32(nil, uint32(4+len(all))), all...)
	}
	application := document(element(0x02, "name", text(probeMark)))
	hello := document(
		element(0x10, "hello", []byte{1, 0, 0, 0}),
		element(0x03, "client", document(element(0x03, "application", application),
			element(0x03, "driver", document(element(0x02, "name", text(probeMark)), element(0x02, "version", text("1")))),
			element(0x03, "os", document(element(0x02, "type", text("unknown")))))),
		element(0x02, "$db", text("admin")),
	)
	b := binary.LittleEndian.AppendUint32(nil, uint32(mongoHead+5+len(hello)))
	b = binary.LittleEndian.AppendUint32(b, 1) // its id
	b = binary.LittleEndian.AppendUint32(b, 0) // it answers nothing
	b = binary.LittleEndian.AppendUint32(b, mongoMsg)
	return string(append(append(b, 0, 0, 0, 0, 0), hello...)) // flags, and a section that is one document
}

// mongoFields reads the texts and whole numbers of a document, up to the first
// field of another kind.
func mongoFields(doc []byte) map[string]string {
	fields := make(map[string]string)
	for doc = doc[min(4, len(doc)):]; len(doc) > 1; {
		kind := doc[0]
		name, rest, ok := bytes.Cut(doc[1:], []byte{0})
		if !ok {
			break
		}
		switch {
		case kind == 0x02 && len(rest) >= 4: // text
			size := int(binary.LittleEndian.Uint32(rest))
			if size < 1 || size > len(rest)-4 {
				return fields
			}
			fields[string(name)] = string(rest[4 : 4+size-1])
			rest = rest[4+size:]
		case kind == 0x10 && len(rest) >= 4: // number of 32 bits
			fields[string(name)] = fmt.Sprint(int32(binary.LittleEndian.Uint32(rest)))
			rest = rest[4:]
		case kind == 0x01 && len(rest) >= 8: // floating point
			fields[string(name)] = fmt.Sprint(math.Float64frombits(binary.LittleEndian.Uint64(rest)))
			rest = rest[8:]
		case kind == 0x08 && len(rest) >= 1: // truth value
			rest = rest[1:]
		default:
			return fields
		}
		doc = rest
	}
	return fields
}
