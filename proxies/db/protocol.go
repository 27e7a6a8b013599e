// Package db knows the database protocols that Teleport carries: how each is
// named on the wire, what a tunnel must know of it, and what to give its
// clients so that they find the tunnel.
//
// A protocol is a file, named after it: its row of the table, how its clients
// are led to a tunnel, how one is recognised by its first words, how it is
// refused, and how a connection is followed until it is at rest. To add a
// protocol, add the file and its name to protocols.
//
// Strings that the package makes are escaped for the client they are meant for
// and contain no secret: a tunnel's clients need none.
package db

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// Protocol is a database protocol as Teleport names it.
type Protocol struct {
	// Name is Teleport's word for it, as in a database resource.
	Name string
	// Title is its name for people.
	Title string
	// ALPN is what the proxy routes it by, without "-ping".
	ALPN string
	// Native reports whether a tunnel can carry it as plain bytes. What it
	// cannot carry needs tsh.
	Native bool
	// Warm reports whether a connection may wait at the proxy for its client:
	// nothing begins there before the client speaks. Of the others each is a
	// session from its TLS handshake on.
	Warm bool
	// NeedsDBUser reports whether the database user comes from the cert, so
	// that a tunnel must name one. Other clients name it themselves.
	NeedsDBUser bool
	// DefaultDBUser is the user that the cert names when the tunnel names none;
	// empty means that the cert names none either.
	DefaultDBUser string

	// dbName reports whether a database in a server can have that name; nil means
	// that it may be any.
	dbName func(name string) bool
	// serverFirst reports whether the server speaks first.
	serverFirst bool
	// hello is what a client may say first so that the server answers without
	// a login; empty means there is no such thing.
	hello string
	// helloOwn is how many bytes of the answer a tunnel gives itself.
	helloOwn int
	// guess reports whether a client that says this first speaks the protocol.
	// Of protocols that begin alike one has it; nil means another one does.
	guess func(first []byte) bool
	// opens judges a client's first bytes; nil means that they may be anything.
	opens func(first []byte) verdict
	// answers judges what the server has said to a client that began so; ended
	// says that nothing more follows. nil means that it cannot be judged.
	answers func(said, client []byte, ended bool) answer
	// names returns the database user and the database that a client names first;
	// nil means that the cert names them.
	names func(client []byte) (user, database string)
	// login is what a client says first, or in answer to the server, to log in;
	// nil means that a Probe cannot. logout ends what it began.
	login  func(user, database string) string
	logout string
	// retell rewrites a refusal with a hint; nil means that there is no way.
	retell func(refusal []byte, hint string) []byte
	// refuse answers a client with a refusal; nil means that there is no way.
	refuse refuser
	// secure looks for a client's wish for TLS in what it says first, and sees
	// to it; nil means that the protocol is carried as it is.
	secure func(*Front) error
	// greet writes what the server says first in such a way that the client may
	// ask for TLS; nil means that the client speaks first.
	greet func(f *Front, p []byte) (int, error)
	// follow follows a connection until it is at rest; nil means that berth cannot
	// read enough of the protocol. farewell ends it then with a reason; nil means
	// that the protocol's servers just hang up.
	follow   func() follower
	farewell func(Refusal) []byte
	// client is how to reach a tunnel with the usual clients.
	client client
}

// alias is the same protocol under another name, with clients of its own. No first
// words are taken for it: they are p's.
func (p Protocol) alias(name, title string, c client) Protocol {
	p.Name, p.Title, p.client, p.guess = name, title, c, nil
	return p
}

// protocols is the table, in the order in which a client's first words are
// compared: a MongoDB message begins with its length, which may look like the
// beginning of any other protocol, so its own signs are looked for first.
var protocols = []Protocol{
	mongodb, postgres, cockroachdb, mysql, mariadb, redis, sqlserver, cassandra, clickhouse, clickhouseHTTP,
	elasticsearch, opensearch, dynamodb, snowflake, spanner, oracle,
}

// Lookup returns the protocol of that name.
func Lookup(name string) (Protocol, bool) {
	return find(func(p Protocol) bool { return p.Name == name })
}

func find(match func(Protocol) bool) (Protocol, bool) {
	i := slices.IndexFunc(protocols, match)
	if i < 0 {
		return Protocol{}, false
	}
	return protocols[i], true
}

// Hello returns what a client may say first to get an answer that needs no
// login: nothing where the server speaks first. The first own bytes of the answer
// are a tunnel's, where there is one between. ok is false where every answer needs
// a login.
func (p Protocol) Hello() (first string, own int, ok bool) {
	return p.hello, p.helloOwn, p.serverFirst || p.hello != ""
}

// TakesDBName reports whether a client can be led to a database of that name in the
// server; the empty name leaves it to the client.
func (p Protocol) TakesDBName(name string) bool {
	return name == "" || p.dbName == nil || p.dbName(name)
}

// Refuse answers a client with the reason, in its own protocol: it reads from
// conn's first byte on, up to the first place where the protocol has room for
// an error. The caller closes conn.
//
// It returns within two seconds whatever the client does, and sets conn's
// deadline to see to that. The error says why the client got no answer: it hung
// up, said nothing or spoke something else; or p has no way to refuse, which is
// errors.ErrUnsupported.
func (p Protocol) Refuse(conn net.Conn, r Refusal) error {
	if p.refuse == nil {
		return fmt.Errorf("refuse a client of %s: %w", p.Title, errors.ErrUnsupported)
	}
	err := conn.SetDeadline(time.Now().Add(refuseTimeout))
	if err == nil {
		client := struct {
			io.Reader
			io.Writer
		}{io.LimitReader(conn, refuseMax), conn}
		err = p.refuse(client, r.clean())
	}
	if err != nil {
		return fmt.Errorf("refuse a client of %s: %w", p.Title, err)
	}
	return nil
}
