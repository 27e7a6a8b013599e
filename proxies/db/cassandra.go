package db

import (
	"encoding/binary"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

var cassandra = Protocol{
	Name:        "cassandra",
	Title:       "Cassandra",
	ALPN:        "teleport-cassandra",
	Native:      true,
	NeedsDBUser: true,
	guess:       isCassandra,
	opens:       opensBy(cqlHead, isCassandra),
	answers:     cqlAnswers,
	login:       cqlProbe,
	refuse:      refuseCassandra,
	secure:      secureDirect(),
	client: client{
		text: map[Format]func(Endpoint) string{
			JDBC: func(e Endpoint) string {
				return jdbcURL("cassandra", e, e.DBName, e.secure([]string{"enablessl", "true"}, nil)...)
			},
		},
		noCA: []Format{JDBC},
		env: func(e Endpoint) []string {
			return append([]string{"CQLSH_HOST=" + e.Host, "CQLSH_PORT=" + e.port()},
				nonEmpty("SSL_CERTFILE", e.CA)...)
		},
		command: func(e Endpoint) []string {
			return slices.Concat([]string{"cqlsh"}, cqlshArgs(e), []string{e.Host, e.port()})
		},
		usual: []string{"cqlsh"},
		programs: []program{
			// Host and port are its last arguments, and the variables come before
			// what cqlshrc says.
			{names: []string{"cqlsh", "cqlsh-expansion"}, args: cqlshWithoutTLS},
			{names: []string{"nodetool"}, refuse: "speaks JMX, which no tunnel carries"},
		},
	},
}

func cqlshArgs(e Endpoint) []string {
	var argv []string
	if e.DBUser != "" {
		argv = []string{"-u", e.DBUser, "-p", unusedPassword}
	}
	if e.CA != "" { // it finds the CA in the variable
		argv = append(argv, "--ssl")
	}
	return args(argv, "-k", e.DBName)
}

// cqlshTLS is the line of a cqlshrc that asks for TLS.
var cqlshTLS = regexp.MustCompile(`(?mi)^\s*ssl\s*[=:]\s*(true|yes|on|1)\s*$`)

// cqlshWithoutTLS are cqlshArgs, and a cqlshrc of berth's where the user's own asks
// for TLS: no argument takes that back.
func cqlshWithoutTLS(x execution) ([]string, error) {
	argv := cqlshArgs(x.Endpoint)
	if len(x.own(cqlshTLS, ".cassandra/cqlshrc", ".cqlshrc")) == 0 {
		return argv, nil
	}
	file, err := x.write("cqlshrc", "[connection]\nssl = false\n")
	return append(argv, "--cqlshrc="+file), err
}

// Frames of Cassandra's native protocol. Source: native_protocol_v3.spec to
// native_protocol_v5.spec, sections 2 (frames) and 9 (errors). Version 5 has
// another framing, but only after STARTUP is answered.
const (
	cqlHead      = 9 // version, flags, stream, code, length
	cqlResponse  = 0x80
	cqlError     = 0x00
	cqlStartup   = 0x01
	cqlOptions   = 0x05
	cqlSupported = 0x06
	cqlMin       = 3 // before, streams had one byte
	cqlMax       = 6
	cqlDSE       = 0x40 // the versions of DataStax Enterprise
)

// cqlSupports is what the body of SUPPORTED must name: one version of CQL and
// no compressions.
var cqlSupports = []byte("\x00\x02\x00\x0bCQL_VERSION\x00\x01\x00\x053.0.0\x00\x0bCOMPRESSION\x00\x00")

// refuseCassandra answers the client's STARTUP with an error. The OPTIONS that
// most drivers send before get their answer: gocql (conn.go, "options") would
// drop the text of an error there.
func refuseCassandra(client io.ReadWriter, r Refusal) error {
	for range 2 {
		head, err := cqlRead(client)
		if err != nil {
			return err
		}
		if head[4] == cqlStartup {
			text := r.wholeLine()
			body := binary.BigEndian.AppendUint32(nil, cqlCode(r.Kind))
			body = binary.BigEndian.AppendUint16(body, uint16(len(text)))
			return cqlWrite(client, head, cqlError, append(body, text...))
		}
		if err := cqlWrite(client, head, cqlSupported, cqlSupports); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: no startup", errGarbage)
}

// cqlRead reads a frame that a client may begin with and returns its head.
func cqlRead(r io.Reader) (head [cqlHead]byte, err error) {
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return head, err
	}
	size := binary.BigEndian.Uint32(head[5:])
	if !cqlOpens(head) || size > refuseMax {
		return head, fmt.Errorf("%w: a frame %#x of version %d and %d bytes", errGarbage, head[4], head[0], size)
	}
	_, err = io.CopyN(io.Discard, r, int64(size))
	return head, err
}

// cqlOpens reports whether a client may begin with a frame of that head.
func cqlOpens(head [cqlHead]byte) bool {
	version, code := head[0], head[4]
	known := version >= cqlMin && version <= cqlMax || version&^cqlMax == cqlDSE
	return known && (code == cqlStartup || code == cqlOptions)
}

// cqlWrite answers the frame that began with head, in the same version and
// stream: a client takes nothing else for the answer.
func cqlWrite(w io.Writer, head [cqlHead]byte, code byte, body []byte) error {
	frame := []byte{head[0] | cqlResponse, 0, head[2], head[3], code}
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(body)))
	_, err := w.Write(append(frame, body...))
	return err
}

// cqlCode returns the error code of a refusal, one whose body is nothing but
// the text; that of "unavailable" has more.
func cqlCode(kind RefusalKind) uint32 {
	switch kind {
	case RefusalLogin, RefusalHoldEnded, RefusalMFA, RefusalDenied:
		return 0x0100 // bad credentials
	case RefusalUnknown:
		return 0x2200 // invalid
	default:
		return 0x1001 // overloaded
	}
}

// isCassandra knows a frame by its head.
func isCassandra(first []byte) bool { return len(first) >= cqlHead && cqlOpens([cqlHead]byte(first)) }

// cqlProbe begins a connection and answers for the user, before that is asked:
// Teleport says only to an answer why it refuses. A server that asks for none has
// said so by then.
func cqlProbe(user, _ string) string {
	const authResponse = 0x0f
	frame := func(stream, code byte, body []byte) []byte {
		head := []byte{4, 0, 0, stream, code} // version 4
		return append(binary.BigEndian.AppendUint32(head, uint32(len(body))), body...)
	}
	words := func(b []byte, all ...string) []byte {
		b = binary.BigEndian.AppendUint16(b, uint16(len(all)/2))
		for _, s := range all {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
		}
		return b
	}
	token := "\x00" + bounded(user) + "\x00" + unusedPassword
	answer := append(binary.BigEndian.AppendUint32(nil, uint32(len(token))), token...)
	return string(append(
		frame(0, cqlStartup, words(nil, "CQL_VERSION", "3.0.0", "DRIVER_NAME", probeMark)),
		frame(1, authResponse, answer)...))
}

// cqlRefused reads the body of an error: a code, and the text with its length.
// Teleport's own have the code of a server's error, or of bad credentials where the
// client names another user than the tunnel; the database says that of a password.
func cqlRefused(body []byte) *RefusedError {
	const serverError, badCredentials = 0, 0x0100
	if len(body) < 6 {
		return refusedBy(ByTeleport, "")
	}
	code, text := binary.BigEndian.Uint32(body), body[6:]
	words := string(text[:min(len(text), int(binary.BigEndian.Uint16(body[4:])))])
	password := code == badCredentials && strings.Contains(words, "password")
	if code == serverError || code == badCredentials && !password {
		return refusedBy(ByTeleport, words)
	}
	return refusedBy(ByDatabase, fmt.Sprintf("%s (error 0x%04x)", words, code)).because(password, password)
}

// cqlAnswers looks for the end of the login: READY, the success of an
// authentication, or an error.
func cqlAnswers(said, _ []byte, _ bool) answer {
	const ready, success = 0x02, 0x10
	for len(said) >= cqlHead {
		size := binary.BigEndian.Uint32(said[5:])
		if size > hearMax {
			return served // nothing that berth knows
		}
		if len(said) < cqlHead+int(size) {
			return answer{}
		}
		body := said[cqlHead : cqlHead+int(size)]
		switch said[4] {
		case cqlError:
			return answer{refused: cqlRefused(body)}
		case ready, success:
			return served
		}
		said = said[cqlHead+int(size):]
	}
	return answer{}
}
