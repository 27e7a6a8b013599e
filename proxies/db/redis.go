package db

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

var redis = Protocol{
	Name:          "redis",
	Title:         "Redis",
	ALPN:          "teleport-redis",
	Native:        true,
	DefaultDBUser: "default",
	dbName:        isRedisDB,
	hello:         "*1\r\n$4\r\nPING\r\n",
	guess:         isRedis,
	opens:         redisOpens,
	answers:       redisAnswers,
	login:         redisProbe,
	refuse:        refuseRedis,
	secure:        secureDirect(),
	follow:        followRedis,
	client:        redisClient,
}

// redisClient names no user: clients would try to log in as it.
var redisClient = client{
	text: map[Format]func(Endpoint) string{
		URL: redisURL,
		JDBC: func(e Endpoint) string {
			return jdbcURL("redis", e, redisDB(e), e.secure([]string{"ssl", "true"}, nil)...)
		},
	},
	noCA: []Format{URL, JDBC, Env},
	// redis-cli has no variables for host and port; many libraries take this.
	env: func(e Endpoint) []string {
		return []string{"REDIS_URL=" + redisURL(e), "VALKEY_URL=" + redisURL(e), "IREDIS_URL=" + redisURL(e)}
	},
	command: func(e Endpoint) []string { return append([]string{"redis-cli"}, redisArgs(e)...) },
	clear:   []string{"REDISCLI_AUTH", "VALKEYCLI_AUTH", "KEYDBCLI_AUTH", "IREDIS_DSN", "REDIS_TLS_URL", "REDIS_PROVIDER"}, // a password would be sent, and refused
	usual:   []string{"redis-cli"},
	programs: []program{
		{names: []string{"redis-cli", "valkey-cli", "keydb-cli", "iredis"}, args: always(redisArgs)},
		{names: []string{"redis-benchmark", "valkey-benchmark", "keydb-benchmark"}, args: always(func(e Endpoint) []string {
			return args([]string{"-h", e.Host, "-p", e.port()}, "--dbnum", redisDB(e))
		})},
		{names: []string{"memtier_benchmark"}, args: always(func(e Endpoint) []string {
			return args([]string{"-s", e.Host, "-p", e.port()}, "--select-db", redisDB(e))
		})},
		{names: []string{"redli"}, args: always(func(e Endpoint) []string { return []string{"-h", e.Host, "-p", e.port()} })},
	},
}

func redisArgs(e Endpoint) []string {
	argv := []string{"-h", e.Host, "-p", e.port()}
	if e.CA != "" {
		argv = append(argv, "--tls", "--cacert", e.CA)
	}
	return args(argv, "-n", redisDB(e))
}

func redisURL(e Endpoint) string {
	return makeURL(e.secure([]string{"rediss"}, []string{"redis"})[0], "", e, redisDB(e))
}

// redisDB is the database's number.
func redisDB(e Endpoint) string {
	if !isRedisDB(e.DBName) {
		return ""
	}
	return e.DBName
}

// isRedisDB reports whether a database can be called that: Redis has numbers for
// them, and no names.
func isRedisDB(name string) bool {
	_, err := strconv.ParseUint(name, 10, 16)
	return err == nil
}

// redisSetUp are commands that client libraries send before the user's own,
// and after whose failure they go on, to try with an older protocol or without
// a name. Only the error to the user's own command is shown for certain.
var redisSetUp = map[string]bool{
	"HELLO": true, "AUTH": true, "CLIENT": true, "COMMAND": true, "INFO": true, "READONLY": true, "SELECT": true,
}

// refuseRedis answers the client's commands with an error, up to the first
// that is the user's own. Source: Redis serialization protocol specification.
func refuseRedis(client io.ReadWriter, r Refusal) error {
	answer := []byte("-" + redisCode(r.Kind) + " " + r.wholeLine() + "\r\n")
	in := bufio.NewReader(client)
	answered := false
	for {
		name, args, err := redisCommand(in)
		if err == nil {
			_, err = client.Write(answer)
		}
		if err != nil {
			if answered && !errors.Is(err, errGarbage) {
				return nil // it has its answer, and hung up or is silent
			}
			return err
		}
		answered = true
		if redisSkip(in, args) != nil || !redisSetUp[name] && in.Buffered() == 0 {
			return nil
		}
	}
}

// redisCode returns the first word of the error. Clients retry by themselves
// after some (LOADING, TRYAGAIN) and ask for a password after others (NOAUTH).
func redisCode(kind RefusalKind) string {
	if kind == RefusalDenied {
		return "NOPERM"
	}
	return "ERR"
}

// redisCommand reads the name of the next command and returns it in upper case,
// with how many arguments follow.
func redisCommand(in *bufio.Reader) (name string, args int, err error) {
	for {
		line, err := redisLine(in)
		if err != nil {
			return "", 0, err
		}
		if len(line) == 0 {
			continue // servers skip empty lines
		}
		if line[0] != '*' { // an inline command, as typed into telnet
			word, _, _ := strings.Cut(string(line), " ")
			return strings.ToUpper(word), 0, nil
		}
		n, err := strconv.Atoi(string(line[1:]))
		if err != nil || n < 0 {
			return "", 0, fmt.Errorf("%w: a command of %q words", errGarbage, line[1:])
		}
		if n == 0 {
			continue // servers skip these too
		}
		size, err := redisBulk(in)
		if err != nil {
			return "", 0, err
		}
		if size > 64 {
			return "", 0, fmt.Errorf("%w: a command's name of %d bytes", errGarbage, size)
		}
		word := make([]byte, size+2)
		if _, err := io.ReadFull(in, word); err != nil {
			return "", 0, err
		}
		return strings.ToUpper(string(word[:size])), n - 1, nil
	}
}

// redisSkip reads a command's arguments away. It fails where they end early.
func redisSkip(in *bufio.Reader, args int) error {
	for range args {
		size, err := redisBulk(in)
		if err != nil {
			return err
		}
		if _, err := in.Discard(size + 2); err != nil {
			return err
		}
	}
	return nil
}

// redisBulk reads the head of a bulk string and returns its length.
func redisBulk(in *bufio.Reader) (int, error) {
	line, err := redisLine(in)
	if err != nil {
		return 0, err
	}
	if len(line) == 0 || line[0] != '$' {
		return 0, fmt.Errorf("%w: a word beginning %q", errGarbage, line)
	}
	size, err := strconv.Atoi(string(line[1:]))
	if err != nil || size < 0 || size > refuseMax {
		return 0, fmt.Errorf("%w: a word of %q bytes", errGarbage, line[1:])
	}
	return size, nil
}

// redisLine reads a line of text; what it returns is valid until the next read.
func redisLine(in *bufio.Reader) ([]byte, error) {
	first, err := in.Peek(1)
	if err != nil {
		return nil, err
	}
	if c := first[0]; c < ' ' && c != '\r' && c != '\n' || c > '~' { // a TLS handshake, for one
		return nil, fmt.Errorf("%w: a line beginning %q", errGarbage, first)
	}
	line, err := in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("%w: a line without an end", errGarbage)
	}
	return bytes.TrimRight(line, "\r\n"), err
}

// redisOpens knows a command by the array that it is. A line of text is one too,
// unless it is how another protocol begins.
func redisOpens(first []byte) verdict {
	switch {
	case len(first) == 0:
		return verdictShort
	case isRedis(first):
		return verdictOurs
	case first[0] != '\r' && first[0] != '\n' && (first[0] < ' ' || first[0] > '~'), speaksText(first) != "":
		return verdictForeign
	case bytes.IndexByte(first, '\n') < 0:
		return verdictShort
	default:
		return verdictOurs
	}
}

// isRedis knows a command by the array that it is.
func isRedis(first []byte) bool { return len(first) > 0 && first[0] == '*' }

// redisDenials are the first words of errors that refuse a client, whatever it
// asked for.
var redisDenials = map[string]bool{"WRONGPASS": true, "NOAUTH": true, "NOPERM": true}

// redisAnswers looks at the first lines that the server says. An error may be an
// answer to the client's command alone, and then has words of that in it, which
// are the user's own: it is passed over.
func redisAnswers(said, _ []byte, _ bool) answer {
	for {
		line, rest, whole := bytes.Cut(said, []byte("\r\n"))
		switch {
		case len(said) == 0 || !whole && said[0] == '-':
			return answer{}
		case said[0] != '-':
			return served
		}
		words := string(line[1:])
		code, text, _ := strings.Cut(words, " ")
		if own, ok := strings.CutPrefix(text, teleportSays); ok {
			return answer{refused: refusedBy(ByTeleport, own)}
		}
		if redisDenials[code] {
			return answer{refused: refusedBy(ByDatabase, words).because(code != "NOPERM", false)}
		}
		said = rest
	}
}

// redisFollower reads the heads of a connection's values.
type redisFollower struct {
	unreadable bool
	due        int  // replies
	multi      bool // a transaction was begun
	watch      bool // and one is to come
	from, to   redisStream
}

func followRedis() follower { return &redisFollower{} }

// redisStream is where in a stream of values one side is. Source: Redis
// serialization protocol specification, versions 2 and 3.
type redisStream struct {
	line  []byte   // the beginning of a line that is passing
	skip  int      // bytes of a string to come
	open  []int    // elements to come of each array that has begun, the outermost first
	kind  byte     // of the value that is passing
	words []string // its first strings, in upper case
}

const (
	redisLineKept = 64 // of a line: numbers are shorter
	redisDeepest  = 32 // how deep values may be within others
	redisWords    = 2  // how many are kept
)

func (s *redisStream) whole() bool { return len(s.line) == 0 && s.skip == 0 && len(s.open) == 0 }

// read calls value for each value that has passed, and reports whether all that
// was said is readable.
func (s *redisStream) read(said []byte, value func(kind byte, words []string)) bool {
	for len(said) > 0 {
		if s.skip > 0 {
			n := min(s.skip, len(said))
			if len(s.words) > 0 && len(s.words) <= redisWords {
				last := &s.words[len(s.words)-1]
				*last += strings.ToUpper(string(said[:min(n, max(redisLineKept-len(*last), 0))]))
			}
			s.skip, said = s.skip-n, said[n:]
			if s.skip == 0 {
				s.done(value)
			}
			continue
		}
		part, rest, ended := bytes.Cut(said, []byte("\n"))
		s.line = append(s.line, part[:min(len(part), max(redisLineKept-len(s.line), 0))]...)
		if !ended {
			return len(s.line) == 0 || s.known()
		}
		if len(s.line) == 0 || !s.known() || !s.begin(value) {
			return false
		}
		s.line, said = s.line[:0], rest
	}
	return true
}

// known reports whether the line begins a value that berth can follow.
func (s *redisStream) known() bool { return strings.IndexByte("+-:_,#($=!*~>%", s.line[0]) >= 0 }

// begin begins the value whose first line has passed.
func (s *redisStream) begin(value func(kind byte, words []string)) bool {
	kind := s.line[0]
	if len(s.open) == 0 {
		s.kind, s.words = kind, nil
	}
	if strings.IndexByte("+-:_,#(", kind) >= 0 {
		s.done(value)
		return true
	}
	n, err := strconv.Atoi(string(bytes.TrimSuffix(s.line[1:], []byte("\r"))))
	switch {
	case err != nil || n < -1:
		return false
	case n == -1: // null
		s.done(value)
		return true
	case strings.IndexByte("$=!", kind) >= 0:
		s.skip = n + len("\r\n")
		if len(s.words) <= redisWords { // the next one is for those that are not kept
			s.words = append(s.words, "")
		}
		return true
	case kind == '%':
		n *= 2
	}
	if n == 0 {
		s.done(value)
		return true
	}
	s.open = append(s.open, n)
	return len(s.open) <= redisDeepest
}

// done ends an element, and all that ends with it.
func (s *redisStream) done(value func(kind byte, words []string)) {
	for i := len(s.open) - 1; i >= 0; i-- {
		if s.open[i]--; s.open[i] > 0 {
			return
		}
		s.open = s.open[:i]
	}
	value(s.kind, s.words)
}

// Client follows what the client says.
func (r *redisFollower) Client(said []byte) {
	if r.unreadable {
		return
	}
	readable := r.from.read(said, func(kind byte, words []string) {
		if kind != '*' || len(words) == 0 {
			r.unreadable = true
			return
		}
		r.due++
		r.command(words)
	})
	r.unreadable = r.unreadable || !readable
}

// command notes what a command begins or ends.
func (r *redisFollower) command(words []string) {
	name := func(i int) string {
		if i < len(words) {
			return strings.TrimSuffix(words[i], "\r\n")
		}
		return ""
	}
	switch name(0) {
	case "MULTI":
		r.multi = true
	case "WATCH":
		r.watch = true
	case "UNWATCH":
		r.watch = false
	case "EXEC", "DISCARD", "RESET":
		r.multi, r.watch = false, false
	case "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR", "SYNC", "PSYNC", "QUIT": // not one reply for each command
		r.unreadable = true
	case "CLIENT":
		r.unreadable = r.unreadable || name(1) == "REPLY"
	}
}

// Server follows what the client got.
func (r *redisFollower) Server(said []byte) {
	if r.unreadable {
		return
	}
	readable := r.to.read(said, func(kind byte, _ []string) {
		if kind != '>' { // which answers nothing
			r.due--
		}
	})
	r.unreadable = r.unreadable || !readable || r.due < 0
}

// AtRest reports whether nothing is under way, and no transaction is open.
func (r *redisFollower) AtRest() bool {
	return !r.unreadable && r.due == 0 && !r.multi && !r.watch && r.from.whole() && r.to.whole()
}
