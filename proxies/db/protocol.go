// Package db knows the database protocols that Teleport carries: how each is
// named on the wire, what a tunnel must know of it, and what to give its
// clients so that they find the tunnel.
//
// Beside tables and text it holds what it takes to refuse a client. Strings it
// makes are escaped for the client they are meant for and contain no secret: a
// tunnel's clients need none.
package db

import "slices"

// Protocol is a database protocol as Teleport names it.
type Protocol struct {
	// Name is Teleport's word for it, as in a database resource.
	Name string
	// Title is its name for people.
	Title string
	// ALPN is what the proxy routes it by, without "-ping".
	ALPN string
	// ServerFirst reports whether the server speaks first, so that a client
	// says nothing until it is connected.
	ServerFirst bool
	// HTTP reports whether its clients speak HTTP.
	HTTP bool
	// Native reports whether a tunnel can carry it as plain bytes. What it
	// cannot carry needs tsh.
	Native bool
	// NeedsDBUser reports whether the database user comes from the cert, so
	// that a tunnel must name one. Other clients name it themselves.
	NeedsDBUser bool
	// DefaultDBUser is who to be when nobody is named; empty means there is
	// no such user.
	DefaultDBUser string

	client *client
}

var protocols = []Protocol{
	{Name: "postgres", Title: "PostgreSQL", ALPN: "teleport-postgres", Native: true, client: postgres},
	{Name: "cockroachdb", Title: "CockroachDB", ALPN: "teleport-postgres", Native: true, client: postgres},
	{Name: "mysql", Title: "MySQL", ALPN: "teleport-mysql", ServerFirst: true, Native: true, client: mysql},
	// A resource of MariaDB has the protocol mysql; people call it so anyway.
	{Name: "mariadb", Title: "MariaDB", ALPN: "teleport-mysql", ServerFirst: true, Native: true, client: mariadb},
	{Name: "mongodb", Title: "MongoDB", ALPN: "teleport-mongodb", Native: true, NeedsDBUser: true, client: mongodb},
	{Name: "redis", Title: "Redis", ALPN: "teleport-redis", Native: true, DefaultDBUser: "default", client: redis},
	{Name: "sqlserver", Title: "SQL Server", ALPN: "teleport-sqlserver", Native: true, client: sqlserver},
	{Name: "cassandra", Title: "Cassandra", ALPN: "teleport-cassandra", Native: true, NeedsDBUser: true, client: cassandra},
	{Name: "clickhouse", Title: "ClickHouse", ALPN: "teleport-clickhouse", Native: true, NeedsDBUser: true, client: clickhouse},
	{Name: "clickhouse-http", Title: "ClickHouse (HTTP)", ALPN: "teleport-clickhouse", HTTP: true, Native: true, NeedsDBUser: true, client: clickhouseHTTP},
	{Name: "elasticsearch", Title: "Elasticsearch", ALPN: "teleport-elasticsearch", HTTP: true, Native: true, NeedsDBUser: true, client: elasticsearch},
	{Name: "opensearch", Title: "OpenSearch", ALPN: "teleport-opensearch", HTTP: true, Native: true, NeedsDBUser: true, client: opensearch},
	{Name: "dynamodb", Title: "DynamoDB", ALPN: "teleport-dynamodb", HTTP: true, Native: true, NeedsDBUser: true, client: dynamodb},
	{Name: "snowflake", Title: "Snowflake", ALPN: "teleport-snowflake", HTTP: true, Native: true, NeedsDBUser: true, client: snowflake},
	{Name: "spanner", Title: "Spanner", ALPN: "teleport-spanner", Native: true, NeedsDBUser: true, client: spanner},
	// Its local listener must speak TLS with a wallet that tsh makes.
	{Name: "oracle", Title: "Oracle", ALPN: "teleport-oracle", NeedsDBUser: true, client: oracle},
}

// cancelRequest is the length of Postgres' CancelRequest, which the server acts
// on and never answers: a length, a code, a process id and a key of four bytes
// each. See "Message Formats" in Postgres' manual.
const cancelRequest = 16

// AnswerDue reports whether the server owes an answer to a client that has
// sent so many bytes since it connected.
func (p Protocol) AnswerDue(sent int64) bool {
	switch p.Name {
	case "postgres", "cockroachdb":
		return sent != cancelRequest
	default:
		return true
	}
}

// Lookup returns the protocol of that name.
func Lookup(name string) (Protocol, bool) {
	i := slices.IndexFunc(protocols, func(p Protocol) bool { return p.Name == name })
	if i < 0 {
		return Protocol{}, false
	}
	return protocols[i], true
}

// Protocols returns every known protocol, the common ones first.
func Protocols() []Protocol { return slices.Clone(protocols) }
