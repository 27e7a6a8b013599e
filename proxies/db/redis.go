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
