package simdb

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MySQL capability flags.
const (
	myLongPassword     = 1 << 0
	myFoundRows        = 1 << 1
	myLongFlag         = 1 << 2
	myConnectWithDB    = 1 << 3
	myIgnoreSpace      = 1 << 8
	myProtocol41       = 1 << 9
	myTransactions     = 1 << 13
	mySecureConnection = 1 << 15
	myMultiStatements  = 1 << 16
	myMultiResults     = 1 << 17
	myPSMultiResults   = 1 << 18
	myPluginAuth       = 1 << 19
	myConnectAttrs     = 1 << 20
	myLenencAuth       = 1 << 21

	myCapabilities = myLongPassword | myFoundRows | myLongFlag | myConnectWithDB | myIgnoreSpace | myProtocol41 |
		myTransactions | mySecureConnection | myMultiStatements | myMultiResults | myPSMultiResults | myPluginAuth |
		myConnectAttrs | myLenencAuth
)

// MySQL column types.
const (
	myTypeTiny     = 1
	myTypeShort    = 2
	myTypeLong     = 3
	myTypeFloat    = 4
	myTypeDouble   = 5
	myTypeNull     = 6
	myTypeLongLong = 8
	myTypeInt24    = 9
	myTypeVarStr   = 253
)

// myMaxPayload is the most one packet carries; longer payloads go on in the
// next.
const myMaxPayload = 1<<24 - 1

// myMaxMessage is the most a client may send at once.
const myMaxMessage = 64 << 20

// myCommands are the first bytes of a client's messages.
const (
	myComQuit        = 0x01
	myComInitDB      = 0x02
	myComQuery       = 0x03
	myComFieldList   = 0x04
	myComStatistics  = 0x09
	myComProcessKill = 0x0c
	myComPing        = 0x0e
	myComChangeUser  = 0x11
	myComStmtPrepare = 0x16
	myComStmtExecute = 0x17
	myComStmtLong    = 0x18
	myComStmtClose   = 0x19
	myComStmtReset   = 0x1a
	myComSetOption   = 0x1b
	myComReset       = 0x1f
)

// myWire reads and writes MySQL packets.
type myWire struct {
	r   *bufio.Reader
	w   *bufio.Writer
	seq byte
}

func newMyWire(rw io.ReadWriter) *myWire {
	return &myWire{r: bufio.NewReader(rw), w: bufio.NewWriterSize(rw, 32<<10)}
}

// read returns the payload of the next message.
func (m *myWire) read() ([]byte, error) {
	var payload []byte
	for {
		var head [4]byte
		if _, err := io.ReadFull(m.r, head[:]); err != nil {
			return nil, err
		}
		size := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
		m.seq = head[3] + 1
		if len(payload)+size > myMaxMessage {
			return nil, fmt.Errorf("MySQL message of more than %d bytes", myMaxMessage)
		}
		start := len(payload)
		payload = append(payload, make([]byte, size)...)
		if _, err := io.ReadFull(m.r, payload[start:]); err != nil {
			return nil, err
		}
		if size < myMaxPayload {
			return payload, nil
		}
	}
}

// write sends a message; it is buffered until flush.
func (m *myWire) write(payload []byte) error {
	for {
		part := payload[:min(len(payload), myMaxPayload)]
		head := []byte{byte(len(part)), byte(len(part) >> 8), byte(len(part) >> 16), m.seq}
		m.seq++
		if _, err := m.w.Write(head); err != nil {
			return err
		}
		if _, err := m.w.Write(part); err != nil {
			return err
		}
		payload = payload[len(part):]
		if len(part) < myMaxPayload {
			return nil
		}
	}
}

func (m *myWire) flush() error { return m.w.Flush() }

// ok says that a command succeeded.
func (m *myWire) ok() error {
	return m.write([]byte{0x00, 0, 0, 0x02, 0, 0, 0}) // no rows, autocommit, no warnings
}

func (m *myWire) eof() error {
	return m.write([]byte{0xfe, 0, 0, 0x02, 0})
}

// fail says that a command did not succeed.
func (m *myWire) fail(code uint16, state, message string) error {
	b := binary.LittleEndian.AppendUint16([]byte{0xff}, code)
	b = append(b, '#')
	b = append(b, state...)
	return m.write(append(b, message...))
}

// columns describes the columns of a result.
func (m *myWire) columns(cols []pgColumn) error {
	for _, col := range cols {
		typ, charset := byte(myTypeVarStr), uint16(45)
		if col.kind == kindInt {
			typ, charset = myTypeLongLong, 63
		}
		b := appendLenenc(nil, "def")
		for range 3 { // schema, table, original table
			b = appendLenenc(b, "")
		}
		b = appendLenenc(b, col.name)
		b = appendLenenc(b, col.name)
		b = append(b, 0x0c)
		b = binary.LittleEndian.AppendUint16(b, charset)
		b = binary.LittleEndian.AppendUint32(b, 1024)
		b = append(b, typ, 0, 0, 0, 0, 0)
		if err := m.write(b); err != nil {
			return err
		}
	}
	return m.eof()
}

// textRow sends a row as text.
func (m *myWire) textRow(row []any) error {
	var b []byte
	for _, v := range row {
		if v == nil {
			b = append(b, 0xfb)
			continue
		}
		b = appendLenenc(b, myText(v))
	}
	return m.write(b)
}

// binaryRow sends a row as the answer to a prepared statement.
func (m *myWire) binaryRow(row []any, cols []pgColumn) error {
	b := make([]byte, 1+(len(row)+9)/8)
	for i, v := range row {
		if v == nil {
			b[1+(i+2)/8] |= 1 << ((i + 2) % 8)
		}
	}
	for i, v := range row {
		switch n, isInt := v.(int64); {
		case v == nil:
		case isInt && cols[i].kind == kindInt:
			b = binary.LittleEndian.AppendUint64(b, uint64(n))
		default:
			b = appendLenenc(b, myText(v))
		}
	}
	return m.write(b)
}

// myText returns a value as MySQL prints it.
func myText(v any) string {
	if b, ok := v.(bool); ok {
		if b {
			return "1"
		}
		return "0"
	}
	return textOf(v)
}

func appendLenenc(b []byte, s string) []byte {
	return append(appendLenencInt(b, uint64(len(s))), s...)
}

func appendLenencInt(b []byte, n uint64) []byte {
	switch {
	case n < 0xfb:
		return append(b, byte(n))
	case n < 1<<16:
		return binary.LittleEndian.AppendUint16(append(b, 0xfc), uint16(n))
	case n < 1<<24:
		return append(b, 0xfd, byte(n), byte(n>>8), byte(n>>16))
	default:
		return binary.LittleEndian.AppendUint64(append(b, 0xfe), n)
	}
}

// errMyShort says that a message ended too soon.
var errMyShort = errors.New("malformed packet")

// myReader takes fields off a message; it remembers that one was too short.
type myReader struct {
	b   []byte
	err error
}

func (r *myReader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		r.err = errMyShort
		return make([]byte, min(max(n, 0), 16))
	}
	field := r.b[:n]
	r.b = r.b[n:]
	return field
}

func (r *myReader) byte() byte     { return r.take(1)[0] }
func (r *myReader) uint16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *myReader) uint32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *myReader) uint64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

// zeroString reads up to a zero byte, or the end.
func (r *myReader) zeroString() string {
	for i, c := range r.b {
		if c == 0 {
			s := string(r.b[:i])
			r.b = r.b[i+1:]
			return s
		}
	}
	s := string(r.b)
	r.b = nil
	return s
}

func (r *myReader) lenenc() string {
	n := uint64(r.byte())
	switch n {
	case 0xfc:
		n = uint64(r.uint16())
	case 0xfd:
		b := r.take(3)
		n = uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16
	case 0xfe:
		n = r.uint64()
	}
	if n > uint64(len(r.b)) {
		r.err = errMyShort
		return ""
	}
	return string(r.take(int(n)))
}
