// Package link reads and writes berth:// links.
//
// A link comes from outside: anyone can put one into a page, a mail or a chat. So
// Parse takes only what String could have written: a known verb with its known keys,
// each once, decoded once, of harmless characters. A link says what is wanted and
// carries nothing secret; no link has a place for a code or a token. Whoever follows
// one asks a person first, in the words of Wish.
package link

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// scheme is what a link begins with, before ://.
const scheme = "berth"

// maxLength is how long a link may be, and maxOffset how far into a recording it
// may point.
const (
	maxLength = 1024
	maxOffset = 24 * 365 * time.Hour
)

// Verb says what a link wants.
type Verb string

// The verbs.
const (
	Open      Verb = "open"      // show berth
	Login     Verb = "login"     // log in at Proxy
	Tunnel    Verb = "tunnel"    // show the tunnel Name
	Add       Verb = "add"       // add the tunnel Name to Resource of Kind in Cluster, as User in Database
	Request   Verb = "request"   // show the access request ID
	Assume    Verb = "assume"    // assume the access request ID, for Tunnel alone if it is named
	Recording Verb = "recording" // show the recording ID, at At
)

// verbs are all verbs.
var verbs = []Verb{Open, Login, Tunnel, Add, Request, Assume, Recording}

// Link is what a link says. The fields that its verb does not have are empty.
type Link struct {
	Verb Verb

	Proxy                         string // host:port, or a host
	Name, Tunnel                  string // of a tunnel
	Cluster, Kind, Resource, User string
	Database                      string // of the resource, where it has several
	ID                            string // of a request or recording, or its beginning
	At                            time.Duration
}

// A part is what may stand at one place of a link.
type part struct {
	what  string
	shape *regexp.Regexp
	max   int
	field func(*Link) *string
}

var (
	proxyPart  = part{"a proxy", regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*(:[1-9][0-9]{0,4})?$`), 260, func(l *Link) *string { return &l.Proxy }}
	namePart   = part{"a tunnel's name", tunnelName, 64, func(l *Link) *string { return &l.Name }}
	tunnelPart = part{"a tunnel's name", tunnelName, 64, func(l *Link) *string { return &l.Tunnel }}
	idPart     = part{"an id", regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{3,}$`), 64, func(l *Link) *string { return &l.ID }}

	// usual are the characters that a link has, before it is decoded.
	usual = regexp.MustCompile(`^[A-Za-z0-9._~%/?&=:@+-]*$`)

	tunnelName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	// resourceName is of the names in a cluster. A space, a quote or a slash is not among
	// its characters: what it names goes into sentences and commands.
	resourceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@+-]*$`)
	// dbUser is of the names of database users, which at AWS are roles with a slash.
	dbUser = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@+/-]*$`)
)

// A form is what a verb's links look like: one word after the verb, or none, and
// keys.
type form struct {
	word *part
	keys map[string]part
	need []string // of keys
}

var forms = map[Verb]form{
	Open:   {},
	Login:  {word: &proxyPart},
	Tunnel: {word: &namePart},
	Add: {
		keys: map[string]part{
			"cluster":  {"a cluster's name", resourceName, 256, func(l *Link) *string { return &l.Cluster }},
			"kind":     {"a kind of tunnel", regexp.MustCompile(`^(db|kube)$`), 8, func(l *Link) *string { return &l.Kind }},
			"resource": {"a resource's name", resourceName, 256, func(l *Link) *string { return &l.Resource }},
			"database": {"a database's name", resourceName, 128, func(l *Link) *string { return &l.Database }},
			"user":     {"a database user", dbUser, 128, func(l *Link) *string { return &l.User }},
			"name":     namePart,
		},
		need: []string{"cluster", "kind", "resource"},
	},
	Request:   {word: &idPart},
	Assume:    {word: &idPart, keys: map[string]part{"tunnel": tunnelPart}},
	Recording: {word: &idPart, keys: map[string]part{"t": {"a time in seconds", regexp.MustCompile(`^[0-9]{1,8}(\.[0-9]{1,3})?$`), 12, nil}}},
}

// Error says why a text is no link that berth follows.
type Error struct{ Why string }

func (e *Error) Error() string { return "this is no link that berth follows: " + e.Why }

func refuse(format string, args ...any) error { return &Error{Why: fmt.Sprintf(format, args...)} }

// Parse reads a link. The error is an *Error, whose words quote nothing of it.
func Parse(raw string) (Link, error) {
	if len(raw) > maxLength {
		return Link{}, refuse("it is longer than %d characters", maxLength)
	}
	rest, ok := strings.CutPrefix(raw, scheme+"://")
	if !ok {
		return Link{}, refuse("it does not begin with %s://", scheme)
	}
	if !usual.MatchString(rest) {
		return Link{}, refuse("it has unusual characters")
	}
	path, query, hasQuery := strings.Cut(rest, "?")
	verb, word, hasWord := strings.Cut(path, "/")
	l := Link{Verb: Verb(verb)}
	f, known := forms[l.Verb]
	switch {
	case !known:
		return Link{}, refuse("it asks for something unknown")
	case f.word == nil && word != "": // some systems write a slash after a lone verb
		return Link{}, refuse("its path is too long")
	case f.word != nil && !hasWord:
		return Link{}, refuse("it does not say for what")
	}
	if f.word != nil {
		if err := f.word.set(&l, word); err != nil {
			return Link{}, err
		}
	}
	if hasQuery {
		if err := l.setKeys(f, query); err != nil {
			return Link{}, err
		}
	}
	if err := l.complete(f); err != nil {
		return Link{}, err
	}
	return l, nil
}

// setKeys reads what follows the question mark.
func (l *Link) setKeys(f form, query string) error {
	seen := make(map[string]bool)
	for pair := range strings.SplitSeq(query, "&") {
		key, text, _ := strings.Cut(pair, "=")
		p, ok := f.keys[key]
		switch {
		case !ok:
			return refuse("it has a key that berth does not know")
		case seen[key]:
			return refuse("it has a key twice")
		}
		seen[key] = true
		if err := p.set(l, text); err != nil {
			return err
		}
	}
	return nil
}

// set decodes a text, once, and makes it the value of the part.
func (p part) set(l *Link, text string) error {
	text, err := url.PathUnescape(text)
	if err != nil || len(text) > p.max || !p.shape.MatchString(text) {
		return refuse("where it should have %s, it has something else", p.what)
	}
	if p.field != nil {
		*p.field(l) = text
		return nil
	}
	if l.At, err = time.ParseDuration(text + "s"); err != nil || l.At > maxOffset {
		return refuse("it points too far into a recording")
	}
	return nil
}

// complete makes sure that nothing is missing, and names a tunnel that has no name.
func (l *Link) complete(f form) error {
	for _, key := range f.need {
		p := f.keys[key]
		if *p.field(l) == "" {
			return refuse("it does not name %s", p.what)
		}
	}
	if l.Verb == Add && l.Name == "" {
		l.Name = l.Resource
		if len(l.Name) > namePart.max || !tunnelName.MatchString(l.Name) {
			return refuse("it does not name %s", namePart.what)
		}
	}
	if _, port, ok := strings.Cut(l.Proxy, ":"); ok && !isPort(port) {
		return refuse("its proxy has no port that can be")
	}
	return nil
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

// Check returns an *Error unless Parse would read what String writes.
func (l Link) Check() error {
	_, err := Parse(l.String())
	return err
}

// String is the link as text.
func (l Link) String() string {
	f := forms[l.Verb]
	text := scheme + "://" + string(l.Verb)
	if f.word != nil {
		text += "/" + url.PathEscape(*f.word.field(&l))
	}
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(f.keys)) {
		value := ""
		if p := f.keys[key]; p.field != nil {
			value = *p.field(&l)
		} else if l.At > 0 {
			value = strconv.FormatFloat(l.At.Round(time.Millisecond).Seconds(), 'f', -1, 64)
		}
		if value != "" {
			pairs = append(pairs, key+"="+escape(value))
		}
	}
	if len(pairs) > 0 {
		text += "?" + strings.Join(pairs, "&")
	}
	return text
}

// escape is a value of a query in which every sign but a space means itself to
// Parse.
func escape(value string) string { return strings.ReplaceAll(url.QueryEscape(value), "+", "%20") }

// quote marks a name in a sentence; no name has a quote in it.
func quote(name string) string { return `"` + name + `"` }

// Wish says what the link wants, as the end of "A link wants berth to …".
func (l Link) Wish() string {
	switch l.Verb {
	case Open:
		return "show itself"
	case Login:
		return "log in to Teleport at " + l.Proxy
	case Tunnel:
		return "show the tunnel " + quote(l.Name)
	case Add:
		kind := map[string]string{"db": "the database", "kube": "the Kubernetes cluster"}[l.Kind]
		wish := fmt.Sprintf("add a tunnel %s to %s %s of the cluster %s", quote(l.Name), kind, quote(l.Resource), quote(l.Cluster))
		if l.User != "" {
			wish += " as the user " + quote(l.User)
		}
		if l.Database != "" {
			wish += " in its database " + quote(l.Database)
		}
		return wish
	case Request:
		return "show the access request " + l.ID
	case Assume:
		if l.Tunnel != "" {
			return fmt.Sprintf("take the roles of the access request %s for the tunnel %s", l.ID, quote(l.Tunnel))
		}
		return fmt.Sprintf("take the roles of the access request %s for your whole session", l.ID)
	case Recording:
		return "show the session recording " + l.ID
	}
	return ""
}
