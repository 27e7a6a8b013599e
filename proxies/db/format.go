package db

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"berth/internal/shell"
)

// Endpoint is a tunnel as its clients see it. Empty names are left out of
// what is made of it: the client then takes its own default.
type Endpoint struct {
	Host       string
	Port       int
	DBUser     string
	DBName     string
	TunnelName string
	// CA is the file of berth's local CA, for clients that are to speak TLS with
	// the tunnel; empty means without TLS.
	CA string
}

// secure returns how a client is led to speak TLS, or not to.
func (e Endpoint) secure(yes, no []string) []string {
	if e.CA != "" {
		return yes
	}
	return no
}

// addr is host:port.
func (e Endpoint) addr() string { return net.JoinHostPort(e.Host, strconv.Itoa(e.Port)) }

func (e Endpoint) port() string { return strconv.Itoa(e.Port) }

// check returns an error for what could break out of a line of a file or a
// shell.
func (e Endpoint) check() error {
	var errs []error
	for what, value := range map[string]string{
		"host": e.Host, "database user": e.DBUser, "database name": e.DBName, "tunnel name": e.TunnelName, "file": e.CA,
	} {
		if strings.ContainsFunc(value, unicode.IsControl) {
			errs = append(errs, fmt.Errorf("%s %q has control characters", what, value))
		}
	}
	if e.Host == "" || e.Port < 1 || e.Port > 65535 {
		errs = append(errs, fmt.Errorf("%q is no address", e.addr()))
	}
	return errors.Join(errs...)
}

// Format is a way to write down where a tunnel is.
type Format string

// The formats. Formats returns those that a protocol has.
const (
	URL       Format = "url"       // for clients, libraries and DATABASE_URL
	JDBC      Format = "jdbc"      // for DBeaver, DataGrip and everything in Java
	DSN       Format = "dsn"       // libpq's keywords, Go's MySQL DSN, an ADO.NET connection string
	Env       Format = "env"       // lines for a shell to export what clients look at
	PGService Format = "pgservice" // a section of ~/.pg_service.conf
	MyCnf     Format = "mycnf"     // sections of ~/.my.cnf
)

// AllFormats are the formats of every protocol together.
var AllFormats = []Format{URL, JDBC, DSN, Env, PGService, MyCnf}

// client is how to reach a tunnel with the usual clients of one protocol. A
// nil field means that there is no such thing.
type client struct {
	text map[Format]func(Endpoint) string
	env  func(Endpoint) []string
	// clear are the variables that the clients would obey rather than those of
	// env; one that ends with "*" stands for all that begin so.
	clear []string
	// files writes into a folder what the clients read, and returns the
	// variables that lead them to it.
	files    func(e Endpoint, dir string) ([]string, error)
	command  func(Endpoint) []string      // of the usual client
	usual    []string                     // the same without what Exec adds; nil means that it adds nothing
	programs []program                    // those that berth knows
	refuse   func(Endpoint, Format) error // why a format cannot hold e's names
	// noCA are the formats that cannot name Endpoint.CA: they ask for TLS, and
	// the client must be given the CA in another way.
	noCA []Format
	// noTLS reports that the clients cannot be led to speak TLS.
	noTLS bool
}

// Formats returns the formats that p has.
func (p Protocol) Formats() []Format {
	return slices.DeleteFunc(slices.Clone(AllFormats), func(f Format) bool {
		if f == Env {
			return p.client.env == nil
		}
		return p.client.text[f] == nil
	})
}

// Format writes down where e is, as f. The text ends without a newline.
func (p Protocol) Format(f Format, e Endpoint) (string, error) {
	if f == Env {
		vars, err := p.Env(e)
		if err != nil {
			return "", err
		}
		for i, kv := range vars {
			key, value, _ := strings.Cut(kv, "=")
			vars[i] = "export " + key + "=" + shell.Quote(value)
		}
		return strings.Join(vars, "\n"), nil
	}
	text := p.client.text[f]
	if text == nil {
		return "", p.unsupported(f)
	}
	if err := e.check(); err != nil {
		return "", err
	}
	if err := p.refuses(f, e); err != nil {
		return "", p.elsewhere(err, e)
	}
	return text(e), nil
}

// refuses returns why f cannot hold e's names; nil means that it can.
func (p Protocol) refuses(f Format, e Endpoint) error {
	if p.client.refuse == nil {
		return nil
	}
	return p.client.refuse(e, f)
}

// elsewhere adds the formats that can hold e's names to the reason why one
// cannot.
func (p Protocol) elsewhere(reason error, e Endpoint) error {
	var can []string
	for _, f := range p.Formats() {
		if p.refuses(f, e) == nil {
			can = append(can, string(f))
		}
	}
	if len(can) == 0 {
		return reason
	}
	return fmt.Errorf("%w: choose from %s", reason, strings.Join(can, ", "))
}

// Env returns the environment, as KEY=VALUE, in which p's usual clients find
// e by themselves.
func (p Protocol) Env(e Endpoint) ([]string, error) {
	if p.client.env == nil {
		return nil, p.unsupported(Env)
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	return p.client.env(e), nil
}

// ClientCommand returns a command that opens e in p's usual client.
func (p Protocol) ClientCommand(e Endpoint) ([]string, error) {
	if p.client.command == nil {
		return nil, fmt.Errorf("%s has no usual command-line client that reaches a tunnel", p.Title)
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	return p.client.command(e), nil
}

// NamesCA reports whether f, of an Endpoint with a CA, tells the client which CA
// to trust.
func (p Protocol) NamesCA(f Format) bool { return !slices.Contains(p.client.noCA, f) }

// LedToTLS reports whether p's clients speak TLS with a tunnel when an Endpoint
// with a CA leads them.
func (p Protocol) LedToTLS() bool { return p.secure != nil && !p.client.noTLS }

// unsupported names what p has instead of f.
func (p Protocol) unsupported(f Format) error {
	has := p.Formats()
	if len(has) == 0 {
		return fmt.Errorf("%s cannot be written as %q: its clients need what tsh prints", p.Title, f)
	}
	names := make([]string, len(has))
	for i, h := range has {
		names[i] = string(h)
	}
	return fmt.Errorf("%s cannot be written as %q: choose from %s", p.Title, f, strings.Join(names, ", "))
}

// unusedPassword is for clients that insist on one: Teleport looks at the
// cert, not at the password.
const unusedPassword = "unused"

// makeURL writes scheme://user@host:port/path?query; user and path may be empty.
func makeURL(scheme, user string, e Endpoint, path string, query ...string) string {
	u := url.URL{Scheme: scheme, Host: e.addr()}
	if user != "" {
		u.User = url.User(user)
	}
	if path != "" {
		u.Path, u.RawPath = "/"+path, "/"+escapePath(path)
	}
	u.RawQuery = params("&", query...)
	return u.String()
}

// escapePath escapes one part of a path, and no more than it must: Node's pg
// leaves the escapes of what may stand in a path as they are.
func escapePath(s string) string {
	return strings.NewReplacer("%2C", ",", "%3B", ";").Replace(url.PathEscape(s))
}

// percent escapes what is in chars, and the percent sign.
func percent(s, chars string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c == '%' || strings.IndexByte(chars, c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// edged reports whether s begins or ends with a space, which many readers of
// files and URLs trim.
func edged(s string) bool { return strings.TrimSpace(s) != s }

// jdbcURL writes jdbc:scheme://host:port/db?query for drivers that decode it.
// Some need the slash even without a name after it. Java's decoder takes a plus
// for a space.
func jdbcURL(scheme string, e Endpoint, db string, query ...string) string {
	s := "jdbc:" + scheme + "://" + e.addr() + "/" + strings.ReplaceAll(url.PathEscape(db), "+", "%2B")
	if q := params("&", query...); q != "" {
		s += "?" + q
	}
	return s
}

// params writes key=value pairs, leaving out those without a value. A space is
// %20, which every client takes, unlike "+".
func params(separator string, pairs ...string) string {
	var parts []string
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			parts = append(parts, pairs[i]+"="+strings.ReplaceAll(url.QueryEscape(pairs[i+1]), "+", "%20"))
		}
	}
	return strings.Join(parts, separator)
}

// nonEmpty returns the KEY=VALUE pairs that have a value.
func nonEmpty(pairs ...string) []string {
	var vars []string
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			vars = append(vars, pairs[i]+"="+pairs[i+1])
		}
	}
	return vars
}

// args appends flag and value to argv when there is a value.
func args(argv []string, flag, value string) []string {
	if value == "" {
		return argv
	}
	return append(argv, flag, value)
}
