//go:build linux

package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"berth/proxies/kube/kubeconfig"
)

// dialer returns how a client in this process connects to a tunnel.
func (w *world) dialer(t tunnel) func(ctx context.Context) (session, error) {
	switch t.protocol {
	case "postgres", "cockroachdb":
		return func(ctx context.Context) (session, error) { return dialPG(ctx, t) }
	case "mysql":
		return func(ctx context.Context) (session, error) { return dialMySQL(ctx, t) }
	case "redis":
		return func(ctx context.Context) (session, error) { return dialRedis(ctx, t) }
	case "mongodb", "cassandra", "clickhouse":
		return func(ctx context.Context) (session, error) { return dialEcho(ctx, t) }
	case "":
		return func(context.Context) (session, error) { return w.dialKube(t) }
	default:
		return func(context.Context) (session, error) {
			return &webSession{client: &http.Client{Transport: &http.Transport{}}, base: "http://" + t.addr(), name: t.resource}, nil
		}
	}
}

// identity is what a simulated database knows of the connection, checked.
func identity(rows map[string]string, t tunnel) error {
	return equal(rows["teleport_user"]+" "+rows["service"], t.user+" "+t.resource)
}

// identityQuery asks who is connected: real databases know no more than their own
// user.
func (t tunnel) identityQuery() string {
	who := map[string]string{"postgres": "current_user::text", "mysql": "substring_index(current_user(), '@', 1)"}[t.protocol]
	if !t.real {
		return "select * from session_identity"
	}
	return fmt.Sprintf("select 'teleport_user', %s union all select 'service', '%s'", who, t.resource)
}

// pgSession is a connection to PostgreSQL.
type pgSession struct {
	conn *pgconn.PgConn
	user string
}

func dialPG(ctx context.Context, t tunnel) (session, error) {
	cfg, err := pgconn.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=%s sslmode=disable", t.port, t.user, t.database))
	if err != nil {
		return nil, err
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s := &pgSession{conn, t.user}
	rows := make(map[string]string)
	all, err := conn.Exec(ctx, t.identityQuery()).ReadAll()
	if err == nil {
		for _, r := range all[0].Rows {
			rows[string(r[0])] = string(r[1])
		}
		err = identity(rows, t)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *pgSession) ask(ctx context.Context, token string) error {
	all, err := s.conn.Exec(ctx, fmt.Sprintf("select '%s', current_user", token)).ReadAll()
	if err != nil {
		return err
	}
	if len(all) != 1 || len(all[0].Rows) != 1 {
		return wrong(fmt.Sprint(all), token)
	}
	r := all[0].Rows[0]
	return equal(string(r[0])+" "+string(r[1]), token+" "+s.user)
}

func (s *pgSession) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.conn.Close(ctx) // it may have been cut
}

// mySession is a connection to MySQL.
type mySession struct {
	pool     *sql.DB
	conn     *sql.Conn
	database string
}

func init() { _ = mysql.SetLogger(quiet{}) } // what it prints is in the ledger

// quiet drops what the driver would print.
type quiet struct{}

func (quiet) Print(...any) {}

func dialMySQL(ctx context.Context, t tunnel) (session, error) {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.DBName = "tcp", t.addr(), t.user, t.database
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	s := &mySession{pool: sql.OpenDB(connector), database: t.database}
	if s.conn, err = s.pool.Conn(ctx); err != nil {
		_ = s.pool.Close() // it has no connection
		return nil, err
	}
	if err := s.identify(ctx, t); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *mySession) identify(ctx context.Context, t tunnel) error {
	all, err := s.conn.QueryContext(ctx, t.identityQuery())
	if err != nil {
		return err
	}
	defer all.Close() //nolint:errcheck // it was read to its end
	rows := make(map[string]string)
	for all.Next() {
		var name, value string
		if err := all.Scan(&name, &value); err != nil {
			return err
		}
		rows[name] = value
	}
	if err := all.Err(); err != nil {
		return err
	}
	return identity(rows, t)
}

func (s *mySession) ask(ctx context.Context, token string) error {
	var got, database string
	if err := s.conn.QueryRowContext(ctx, fmt.Sprintf("select '%s', database()", token)).Scan(&got, &database); err != nil {
		return err
	}
	return equal(got+" "+database, token+" "+s.database)
}

func (s *mySession) close() {
	_ = s.conn.Close() // it may have been cut
	_ = s.pool.Close()
}

// wireSession is a connection whose bytes the client writes itself.
type wireSession struct {
	conn net.Conn
	r    *bufio.Reader
	say  func(token string) (question, answer string)
}

func dialWire(ctx context.Context, t tunnel, say func(token string) (question, answer string)) (*wireSession, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.addr())
	if err != nil {
		return nil, err
	}
	return &wireSession{conn: conn, r: bufio.NewReader(conn), say: say}, nil
}

func (s *wireSession) ask(ctx context.Context, token string) error {
	question, answer := s.say(token)
	return s.exchange(ctx, question, answer)
}

func (s *wireSession) exchange(ctx context.Context, question, answer string) error {
	deadline, _ := ctx.Deadline()
	if err := s.conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := io.WriteString(s.conn, question); err != nil {
		return err
	}
	got := make([]byte, len(answer))
	n, err := io.ReadFull(s.r, got)
	if err != nil {
		if rest := string(got[:n]); rest != answer[:n] {
			return fmt.Errorf("%w after %q", err, rest)
		}
		return err
	}
	if string(got) != answer && !tokens.Match(got) {
		return fmt.Errorf("%w: %q", errRefused, got) // in the protocol's words
	}
	return equal(string(got), answer)
}

// tokens is what every answer has that is one.
var tokens = regexp.MustCompile(`t\d+-\d+`)

func (s *wireSession) close() { _ = s.conn.Close() } // it may have been cut

// redisWho is how a Redis is asked for a name, and that name: a real one knows its
// user alone.
func (t tunnel) redisWho() (question [2]string, name string) {
	if t.real {
		return [2]string{"ACL", "WHOAMI"}, t.user
	}
	return [2]string{"GET", "who"}, t.resource
}

func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }

func dialRedis(ctx context.Context, t tunnel) (session, error) {
	s, err := dialWire(ctx, t, func(token string) (string, string) {
		who, name := t.redisWho()
		return "*2\r\n" + bulk("ECHO") + bulk(token) + "*2\r\n" + bulk(who[0]) + bulk(who[1]), bulk(token) + bulk(name)
	})
	if err != nil {
		return nil, err // not s: it would be an interface that holds nil
	}
	return s, nil
}

// dialEcho connects to a database that sends everything back: what is said begins
// as clients of its protocol do.
func dialEcho(ctx context.Context, t tunnel) (session, error) {
	s, err := dialWire(ctx, t, func(token string) (string, string) {
		said := frame(t.protocol, t.resource+" "+token)
		return said, said
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// frame is a message of a protocol around a text.
func frame(protocol, text string) string {
	size := uint32(len(text))
	switch protocol {
	case "mongodb": // OP_MSG
		head := binary.LittleEndian.AppendUint32(nil, 16+size)
		head = append(head, 1, 0, 0, 0, 0, 0, 0, 0)
		return string(binary.LittleEndian.AppendUint32(head, 2013)) + text
	case "cassandra": // version 4, OPTIONS
		return string(binary.BigEndian.AppendUint32([]byte{4, 0, 0, 1, 5}, size)) + text
	default: // ClickHouse's hello, and the client's name
		return "\x00" + string(rune(size)) + text
	}
}

// webSession is a client that speaks HTTP, and keeps its connection.
type webSession struct {
	client *http.Client
	base   string
	name   string
	real   bool // whether it is a Kubernetes that knows no more than what it has
}

// question is what it is asked, and the right answer. The real one has no config
// map of that name, and says so.
func (s *webSession) question(token string) (path, answer string, code int) {
	if s.real {
		return configMaps + token, fmt.Sprintf("configmaps \\\"%s\\\" not found", token), http.StatusNotFound
	}
	return askPath + "?token=" + token, named(s.name, token), http.StatusOK
}

const configMaps = "/api/v1/namespaces/default/configmaps/"

func (s *webSession) ask(ctx context.Context, token string) error {
	path, answer, code := s.question(token)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+path, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if s.real && strings.Contains(string(body), answer) {
		body = []byte(answer)
	}
	if resp.StatusCode != code {
		return fmt.Errorf("%w: %s: %.200s", errRefused, resp.Status, body)
	}
	return equal(string(body), answer)
}

func (s *webSession) close() { s.client.CloseIdleConnections() }

// dialKube returns a client of a Kubernetes tunnel, by berth's kubeconfig.
func (w *world) dialKube(t tunnel) (session, error) {
	data, err := os.ReadFile(kubeconfig.Path(w.paths.StateDir))
	if err != nil {
		return nil, err
	}
	file, err := clientcmd.Load(data)
	if err != nil {
		return nil, err
	}
	cfg, err := clientcmd.NewNonInteractiveClientConfig(*file, kubeconfig.ContextName(t.name), nil, nil).ClientConfig()
	if err != nil {
		return nil, err
	}
	tlsCfg, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: tlsCfg, ForceAttemptHTTP2: true}
	return &webSession{client: &http.Client{Transport: transport}, base: cfg.Host, name: t.resource, real: t.real}, nil
}
