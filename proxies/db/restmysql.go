package db

import (
	"encoding/binary"
	"math"
)

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
