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
	myLongFlag         = 1 << 2
	myConnectWithDB    = 1 << 3
	myProtocol41       = 1 << 9
	myTransactions     = 1 << 13
	mySecureConnection = 1 << 15
	myPluginAuth       = 1 << 19
	myConnectAttrs     = 1 << 20
	myLenencAuth       = 1 << 21

	myCapabilities = myLongPassword | myLongFlag | myConnectWithDB | myProtocol41 | myTransactions |
		mySecureConnection | myPluginAuth | myConnectAttrs | myLenencAuth
)

// MySQL column types.
const (
	myTypeLongLong = 8
	myTypeVarStr   = 253
)

// myProtocol is the version of the protocol, the first byte of a greeting.
const myProtocol = 10

// myMaxPayload is the most one packet carries; clients and servers here say
// less at once.
const myMaxPayload = 1<<24 - 1

// myCommands are the first bytes of a client's messages.
const (
	myComQuit      = 0x01
	myComInitDB    = 0x02
	myComQuery     = 0x03
	myComFieldList = 0x04
	myComPing      = 0x0e
	myComReset     = 0x1f
)

// readPacket returns the next packet with its head: three bytes of length, one
// of sequence.
func readPacket(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	if size == myMaxPayload {
		return nil, fmt.Errorf("MySQL message of %d bytes or more", size)
	}
	packet := append(head[:], make([]byte, size)...)
	_, err := io.ReadFull(r, packet[len(head):])
	return packet, err
}

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
	packet, err := readPacket(m.r)
	if err != nil {
		return nil, err
	}
	m.seq = packet[3] + 1
	return packet[4:], nil
}

// write sends a message; it is buffered until flush.
func (m *myWire) write(payload []byte) error {
	n := len(payload)
	head := []byte{byte(n), byte(n >> 8), byte(n >> 16), m.seq}
	m.seq++
	if _, err := m.w.Write(head); err != nil {
		return err
	}
	_, err := m.w.Write(payload)
	return err
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

// refuse tells a client that it may not log in.
func (m *myWire) refuse(reason error) error {
	return errors.Join(m.fail(1105, "HY000", reason.Error()), m.flush())
}

// result sends rows as text.
func (m *myWire) result(r *Result) error {
	if err := m.write(appendLenencInt(nil, uint64(len(r.Columns)))); err != nil {
		return err
	}
	for i, name := range r.Columns {
		if err := m.column(name, len(r.Rows) > 0 && isInt(r.Rows[0][i])); err != nil {
			return err
		}
	}
	if err := m.eof(); err != nil {
		return err
	}
	for _, row := range r.Rows {
		var b []byte
		for _, v := range row {
			if v == nil {
				b = append(b, 0xfb)
				continue
			}
			b = appendLenenc(b, fmt.Sprint(v))
		}
		if err := m.write(b); err != nil {
			return err
		}
	}
	return m.eof()
}

func isInt(v any) bool {
	_, ok := v.(int64)
	return ok
}

// column describes a column of a result.
func (m *myWire) column(name string, number bool) error {
	typ, charset := byte(myTypeVarStr), uint16(45)
	if number {
		typ, charset = myTypeLongLong, 63
	}
	b := appendLenenc(nil, "def")
	for range 3 { // schema, table, original table
		b = appendLenenc(b, "")
	}
	b = appendLenenc(b, name)
	b = appendLenenc(b, name)
	b = append(b, 0x0c)
	b = binary.LittleEndian.AppendUint16(b, charset)
	b = binary.LittleEndian.AppendUint32(b, 1024)
	return m.write(append(b, typ, 0, 0, 0, 0, 0))
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
	default:
		return append(b, 0xfd, byte(n), byte(n>>8), byte(n>>16))
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
