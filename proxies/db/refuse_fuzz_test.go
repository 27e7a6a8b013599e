package db

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgproto3"

	"berth/internal/plain"
)

func refuserNames() []string {
	var names []string
	for _, p := range protocols {
		if p.refuse != nil {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	return names
}

// FuzzRefuse lets clients say anything in every protocol.
func FuzzRefuse(f *testing.F) {
	names := refuserNames()
	for _, o := range openings(f) {
		f.Add(uint8(slices.Index(names, o.protocol)), []byte(o.said))
	}
	f.Fuzz(func(t *testing.T, protocol uint8, said []byte) {
		name := names[int(protocol)%len(names)]
		in := &countReader{r: bytes.NewReader(said)}
		heard, err := refuseSaid(t, name, in, waiting)
		if in.n > refuseMax {
			t.Errorf("%s read %d bytes", name, in.n)
		}
		// Redis answers each command, of ten bytes and more, with all the text.
		if most := 1000 + 100*len(said); len(heard) > most {
			t.Errorf("%s answers %d bytes to %d", name, len(heard), len(said))
		}
		cancelled := strings.HasPrefix(name, "postgres") || name == "cockroachdb"
		if err == nil && heard == "" && !cancelled {
			t.Errorf("%s: neither an answer nor an error", name)
		}
	})
}

// FuzzRefusalText puts any text into every protocol: what comes out must still
// be one well-formed answer, with nothing in it to harm a terminal.
func FuzzRefusalText(f *testing.F) {
	f.Add(waiting.Title, waiting.Text, waiting.Hint)
	f.Add("\r\n+OK\r\n", "\x00\x1b[2J", "\u202e\xff")
	f.Add("", "", "")
	f.Add(strings.Repeat("ä😀", 999), strings.Repeat("\U0001F600", 999), strings.Repeat("x", 9999))
	all := openings(f)
	f.Fuzz(func(t *testing.T, title, text, hint string) {
		for _, o := range all {
			if o.client == "cancel" || o.client == "head" {
				continue
			}
			r := Refusal{Title: title, Text: text, Hint: hint}
			heard, err := refuseSaid(t, o.protocol, strings.NewReader(o.said), r)
			if err != nil {
				t.Fatalf("%v: %v", o, err)
			}
			said, err := readAnswer(o.protocol, []byte(heard))
			if err != nil {
				t.Errorf("%v: %v in %q", o, err, heard)
			}
			if said == "" || !utf8.ValidString(said) || said != plain.Words(said) {
				t.Errorf("%v says %q", o, said)
			}
		}
	})
}

// readAnswer takes an answer apart as a strict client would and returns its text.
func readAnswer(protocol string, b []byte) (string, error) {
	switch protocol {
	case "postgres", "cockroachdb":
		b = bytes.TrimLeft(b, "N")
		msg, err := pgproto3.NewFrontend(bytes.NewReader(b), io.Discard).Receive()
		if err != nil {
			return "", err
		}
		e, ok := msg.(*pgproto3.ErrorResponse)
		if !ok {
			return "", fmt.Errorf("a %T", msg)
		}
		return strings.TrimSpace(plain.Words(e.Message + " " + e.Detail + " " + e.Hint)), nil
	case "mysql", "mariadb":
		if size := int(b[0]) | int(b[1])<<8; size != len(b)-4 || size > 3+mysqlTextMax || b[4] != 0xff {
			return "", errors.New("bad packet")
		}
		return string(b[7:]), nil
	case "redis":
		lines := strings.SplitAfter(string(b), "\r\n")
		for _, line := range lines[:len(lines)-1] {
			if line != lines[0] {
				return "", errors.New("answers differ")
			}
		}
		return strings.TrimSpace(strings.TrimPrefix(lines[0], "-ERR ")), nil
	case "mongodb":
		return readMongo(b)
	case "sqlserver":
		return readTDS(b)
	case "cassandra":
		return readCQL(b)
	}
	if b[0] == chException {
		return readException(b)
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if ct := resp.Header.Get("Content-Type"); err == nil && strings.Contains(ct, "json") && !json.Valid(body) {
		err = errors.New("bad JSON")
	}
	return strings.TrimSpace(string(body)), err
}

func readMongo(b []byte) (string, error) {
	if int(binary.LittleEndian.Uint32(b)) != len(b) {
		return "", errors.New("bad message length")
	}
	doc := b[bytes.Index(b, []byte("\x01ok\x00"))-4:]
	if int(binary.LittleEndian.Uint32(doc)) != len(doc) || doc[len(doc)-1] != 0 {
		return "", errors.New("bad document length")
	}
	_, rest, _ := bytes.Cut(doc, []byte("errmsg\x00"))
	size := binary.LittleEndian.Uint32(rest)
	if rest[4+size-1] != 0 || !bytes.HasPrefix(rest[4+size:], []byte("\x10code\x00")) {
		return "", errors.New("bad string")
	}
	return string(rest[4 : 4+size-1]), nil
}

func readTDS(b []byte) (string, error) {
	for {
		size := int(binary.BigEndian.Uint16(b[2:]))
		if b[0] != tdsReply || b[1] != tdsLast || size > tdsPacket {
			return "", fmt.Errorf("a packet of %d bytes", size)
		}
		packet := b[tdsHead:size]
		if b = b[size:]; len(b) > 0 {
			continue // the answer to PRELOGIN
		}
		token := packet[3 : 3+binary.LittleEndian.Uint16(packet[1:])]
		if packet[0] != tdsError || packet[3+len(token)] != tdsDone {
			return "", errors.New("bad tokens")
		}
		units := make([]uint16, binary.LittleEndian.Uint16(token[6:]))
		for i := range units {
			units[i] = binary.LittleEndian.Uint16(token[8+2*i:])
		}
		return string(utf16.Decode(units)), nil
	}
}

func readCQL(b []byte) (string, error) {
	for {
		size := int(binary.BigEndian.Uint32(b[5:]))
		body := b[cqlHead : cqlHead+size]
		if b[4] == cqlSupported {
			b = b[cqlHead+size:]
			continue
		}
		if len(b) != cqlHead+size || b[4] != cqlError || int(binary.BigEndian.Uint16(body[4:])) != len(body)-6 {
			return "", errors.New("bad frame")
		}
		return string(body[6:]), nil
	}
}

func readException(b []byte) (string, error) {
	b = b[5:]
	var texts []string
	for range 3 {
		size, n := binary.Uvarint(b)
		texts = append(texts, string(b[n:n+int(size)]))
		b = b[n+int(size):]
	}
	if len(b) != 1 || b[0] != 0 || texts[0] != "DB::Exception" || texts[2] != "" {
		return "", errors.New("bad exception")
	}
	return texts[1], nil
}
