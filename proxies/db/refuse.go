package db

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// RefusalKind is why a client is refused. It decides which of a protocol's
// own error codes the client gets.
type RefusalKind int

// The kinds of refusal.
const (
	RefusalOther       RefusalKind = iota // none of the below
	RefusalLogin                          // nobody is logged in
	RefusalHoldEnded                      // the client was held, and no login came
	RefusalDenied                         // the cluster refused
	RefusalMFA                            // the cluster wants a second factor that cannot be had now
	RefusalUnreachable                    // the proxy does not answer
	RefusalUnknown                        // the cluster has no such database
)

// Refusal is what a refused client is told. The texts may come from anywhere:
// each protocol's writer makes them harmless and short enough.
type Refusal struct {
	// Title says what is wrong in a few words. Some clients print nothing
	// else, so it is best when it names the tunnel.
	Title string
	// Text says it in a sentence: cause, tunnel, since when.
	Text string
	// Hint is what to do about it, most often a command to type.
	Hint string
	// Kind chooses the error codes.
	Kind RefusalKind
}

const (
	// refuseTimeout is how long a client may take to say what it must have
	// said before its protocol lets a server refuse it.
	refuseTimeout = 2 * time.Second
	// refuseMax is how much is read of a client that is refused. What clients
	// say first is a few hundred bytes; a big HTTP cookie is 8 KiB.
	refuseMax = 64 << 10
)

// errGarbage says that the client speaks something else than its protocol.
var errGarbage = errors.New("it does not speak the protocol")

// refuser refuses one client. What it reads is bounded in size and time, and
// the texts of r are clean.
type refuser func(client io.ReadWriter, r Refusal) error

// refusers is what each protocol has; the rest has no way to be told.
//
// That rest is oracle, whose clients speak to tsh, and spanner, whose clients
// speak gRPC.
var refusers = map[string]refuser{
	"postgres":        refusePostgres,
	"cockroachdb":     refusePostgres,
	"mysql":           refuseMySQL,
	"mariadb":         refuseMySQL,
	"mongodb":         refuseMongoDB,
	"redis":           refuseRedis,
	"sqlserver":       refuseSQLServer,
	"cassandra":       refuseCassandra,
	"clickhouse":      refuseClickHouse,
	"clickhouse-http": refuseHTTP(clickHousePage),
	"elasticsearch":   refuseHTTP(elasticPage),
	"opensearch":      refuseHTTP(elasticPage),
	"dynamodb":        refuseHTTP(dynamoPage),
	"snowflake":       refuseHTTP(snowflakePage),
}

// Refuse tells a client why it is refused, in its own protocol: it answers
// from conn's first byte on up to the first place where the protocol has room
// for an error. The caller closes conn.
//
// It returns within two seconds whatever the client does, and sets conn's
// deadline to see to that. The error says why the client was not told:
// because it hung up, said nothing or spoke something else; or, as
// errors.ErrUnsupported, because p has no way to tell it.
func (p Protocol) Refuse(conn net.Conn, r Refusal) error {
	refuse := refusers[p.Name]
	if refuse == nil {
		return fmt.Errorf("tell a client of %s that it is refused: %w", p.Title, errors.ErrUnsupported)
	}
	err := conn.SetDeadline(time.Now().Add(refuseTimeout))
	if err == nil {
		client := struct {
			io.Reader
			io.Writer
		}{io.LimitReader(conn, refuseMax), conn}
		err = refuse(client, r.clean())
	}
	if err != nil {
		return fmt.Errorf("tell a client of %s that it is refused: %w", p.Title, err)
	}
	return nil
}
