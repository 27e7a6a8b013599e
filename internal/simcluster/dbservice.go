package simcluster

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gravitational/teleport/api/constants"
	"github.com/gravitational/teleport/api/utils/pingconn"

	"berth/certwatch"
	"berth/internal/simcluster/simdb"
)

// mysqlVersionALPN is followed by the base64 of a server version, which the
// client wants to be greeted with.
const mysqlVersionALPN = "teleport-mysql-"

// dbALPN returns the database protocol that an ALPN protocol stands for,
// without its ping suffix or version, and whether it is one.
func dbALPN(proto string) (string, bool) {
	base := strings.TrimSuffix(proto, constants.ALPNSNIProtocolPingSuffix)
	switch base {
	case "teleport-postgres", "teleport-mysql", "teleport-mongodb", "teleport-redis", "teleport-sqlserver",
		"teleport-oracle", "teleport-cassandra", "teleport-snowflake", "teleport-elasticsearch",
		"teleport-opensearch", "teleport-dynamodb", "teleport-clickhouse", "teleport-spanner", "teleport-tcp":
		return base, true
	}
	if strings.HasPrefix(base, mysqlVersionALPN) {
		return "teleport-mysql", true
	}
	return "", false
}

// alpnOf returns the ALPN protocol for a database protocol.
func alpnOf(protocol string) string {
	switch protocol {
	case "cockroachdb":
		return "teleport-postgres"
	case "mariadb":
		return "teleport-mysql"
	case "clickhouse-http":
		return "teleport-clickhouse"
	default:
		return "teleport-" + protocol
	}
}

// mysqlVersion returns the version that the proxy greets a client with whose
// cert names no database: what the client asks for, else its own.
func mysqlVersion(offered []string) string {
	for _, proto := range offered {
		if strings.HasSuffix(proto, constants.ALPNSNIProtocolPingSuffix) {
			continue // no version
		}
		if encoded, ok := strings.CutPrefix(proto, mysqlVersionALPN); ok {
			if version, err := base64.StdEncoding.DecodeString(encoded); err == nil {
				return string(version)
			}
		}
	}
	return "8.0.0-Teleport"
}

// findVersion asks a MySQL for its version, as a database service does when it
// begins to serve one. A server that does not answer then has none.
func (s *Site) findVersion(db Database) string {
	backend, ok := db.Backend.(simdb.Versioned)
	if !ok {
		return ""
	}
	ctx, cancel := context.WithTimeout(s.c.ctx, 5*time.Second)
	defer cancel()
	version, err := backend.Version(ctx)
	if err != nil {
		s.c.cfg.Log.Debug("database version", "database", db.Name, "err", err)
	}
	return version
}

// serveDB serves a database connection whose client cert, if it has one, has
// been verified.
func (c *Cluster) serveDB(raw *conn, tc *tls.Conn, r route) {
	base, _ := dbALPN(r.proto)
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	refuse := func(why error) {
		s := simdb.Session{ServerVersion: mysqlVersion(r.offer), Authorize: func(string, string) error { return why }}
		_ = simdb.ForProtocol(strings.TrimPrefix(base, "teleport-")).Serve(ctx, c.dbConn(ctx, tc, r), s)
	}
	who, err := callerOf(tc.ConnectionState())
	if err != nil || who.identity.DBService == "" {
		refuse(c.unrouted(who.identity))
		return
	}
	s := sessionOf(who)
	db, site, ok := c.routedDB(who.identity)
	if !ok || alpnOf(db.Protocol) != base {
		return // an unknown service: hung up on without a word
	}
	if (base == alpnOf("postgres") || base == alpnOf("mysql")) && site.parting.Swap(false) {
		refuse(clusterGone(site.name))
		return
	}
	if site.away.Load() || c.refusalOf(who.identity.User) != nil {
		return // without a word, too
	}
	s.ServerVersion = db.version // whatever the client asks for
	key := site.key(db.Name)
	raw.target.Store(&key)
	raw.user.Store(&who.identity.User)
	if !c.faults.holdAfterTLS(ctx, raw, &key) {
		return
	}
	if base != "teleport-postgres" && base != "teleport-mysql" {
		raw.routed.Store(true) // from the handshake on
	}
	s.Authorize = func(user, name string) error {
		raw.routed.Store(true)
		if c.refusalOf(who.identity.User) != nil {
			return errors.New("access denied")
		}
		if err := c.authorizeDB(who.identity, site, db, user, name); err != nil || db.Away == "" {
			return err
		}
		return errors.New(db.Away)
	}
	conn := c.dbConn(ctx, tc, r)
	if base == alpnOf("postgres") || base == alpnOf("mysql") {
		conn = &routedConn{Conn: conn, end: c.routeLater(ctx, raw, who)}
	} else {
		c.disconnectExpired(ctx, raw, who)
	}
	defer c.counters.dbOpened(key, r.offer)()
	if err := db.Backend.Serve(ctx, conn, s); err != nil {
		c.cfg.Log.Debug("database connection", "database", key, "err", err)
	}
}

func clusterGone(name string) error { return fmt.Errorf("cluster %q is not found", name) }

// unrouted says what an identity leads to that names no database: that of a
// login, or the empty one of a client without a cert.
func (c *Cluster) unrouted(id certwatch.Identity) error {
	if c.site(id.RouteToCluster) == nil {
		return clusterGone(id.RouteToCluster)
	}
	return fmt.Errorf("database %q not found among registered databases in cluster %q", id.DBService, id.RouteToCluster)
}

// routedDB returns the database an identity is routed to, and where it is.
func (c *Cluster) routedDB(id certwatch.Identity) (Database, *Site, bool) {
	site := c.root
	if id.RouteToCluster != "" {
		if site = c.site(id.RouteToCluster); site == nil {
			return Database{}, nil, false
		}
	}
	db, ok := site.database(id.DBService)
	return db, site, ok
}

func sessionOf(who caller) simdb.Session {
	id := who.identity
	return simdb.Session{
		User:           id.User,
		Cluster:        id.RouteToCluster,
		Roles:          id.Roles,
		ActiveRequests: id.ActiveRequests,
		Service:        id.DBService,
		DBUser:         id.DBUser,
		DBName:         id.DBName,
		Serial:         who.cert.parsed.SerialNumber.String(),
		NotAfter:       who.cert.notAfter,
	}
}

// disconnectExpired cuts the connection the second its cert ends, if a role or
// the cluster says so.
func (c *Cluster) disconnectExpired(ctx context.Context, raw *conn, who caller) {
	if !c.disconnectsExpired(who) {
		return
	}
	c.spawn(func() {
		if c.ends(ctx, who.cert.notAfter) {
			_ = raw.Close()
		}
	})
}

// routeLater returns what is called when a client speaks for the first time:
// only then is its connection routed, and ended with its cert. One that speaks
// after that end is cut at once.
func (c *Cluster) routeLater(ctx context.Context, raw *conn, who caller) func() {
	return sync.OnceFunc(func() { c.disconnectExpired(ctx, raw, who) })
}

// routedConn calls end when the client has spoken.
type routedConn struct {
	net.Conn
	end func()
}

// Read passes on what the client says.
func (c *routedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.end()
	}
	return n, err
}

// CloseWrite tells the client that nothing more follows.
func (c *routedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// disconnectsExpired reports whether a role or the cluster says that what is
// open ends with its cert.
func (c *Cluster) disconnectsExpired(who caller) bool {
	cut := c.cfg.DisconnectExpiredCert
	for _, r := range c.userRoles(who.identity.Roles) {
		cut = cut || r.DisconnectExpiredCert
	}
	return cut
}

// dbConn returns what a database reads from and writes to: the TLS connection,
// or the ping protocol over it.
func (c *Cluster) dbConn(ctx context.Context, tc *tls.Conn, r route) net.Conn {
	if !strings.HasSuffix(r.proto, constants.ALPNSNIProtocolPingSuffix) {
		return inPieces(tc, r)
	}
	pc := &pingedConn{PingConn: pingconn.New(tc), tls: tc}
	c.spawn(func() { c.ping(ctx, pc) })
	return inPieces(pc, r)
}

// pieceSize is how much of a PostgreSQL's result Teleport passes on at once:
// PostgreSQL's own buffer, each in a TLS record and a frame of its own.
const pieceSize = 8 << 10

// inPieces has the answers of a database sent in the pieces that Teleport
// sends.
func inPieces(conn halfCloser, r route) net.Conn {
	if base, _ := dbALPN(r.proto); base != alpnOf("postgres") {
		return conn
	}
	return &piecesConn{conn}
}

// halfCloser is a connection whose sending half can be ended.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// piecesConn writes in pieces of pieceSize.
type piecesConn struct{ halfCloser }

// Write sends p in pieces.
func (c *piecesConn) Write(p []byte) (int, error) {
	n := 0
	for piece := range slices.Chunk(p, pieceSize) {
		k, err := c.halfCloser.Write(piece)
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (c *Cluster) ping(ctx context.Context, pc *pingedConn) {
	t := time.NewTicker(c.cfg.PingInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if pc.WritePing() != nil {
				return
			}
			c.counters.pings.Add(1)
		case <-ctx.Done():
			return
		}
	}
}

// pingedConn is a ping connection that can be half-closed, as the TLS
// connection beneath it can.
type pingedConn struct {
	*pingconn.PingConn
	tls *tls.Conn
}

// CloseWrite tells the client that nothing more follows.
func (c *pingedConn) CloseWrite() error { return c.tls.CloseWrite() }
