package db_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"berth/internal/simcluster/simdb"
	"berth/internal/testwait"
	"berth/proxies"
	"berth/proxies/db"
)

// echo sends back what it gets, and passes on the half-close.
func echo(conn net.Conn) {
	_, _ = io.Copy(conn, conn)
	_ = conn.(*net.TCPConn).CloseWrite()
}

// TestDirectTLS carries a large answer and the half-close through TLS, for each
// protocol whose clients begin with it.
func TestDirectTLS(t *testing.T) {
	data := make([]byte, 3<<20)
	_, _ = rand.Read(data)
	for _, protocol := range []string{
		"postgres", "cockroachdb", "mongodb", "redis", "sqlserver", "cassandra", "clickhouse", "clickhouse-http",
		"elasticsearch", "opensearch", "dynamodb", "snowflake", "spanner",
	} {
		// No ear: what is sent belongs to no protocol.
		f := front(t, protocol, serving(t, echo), func(c *proxies.Config, _ *db.FrontConfig) { c.Listen = nil })
		conn := tls.Client(dial(t, f), &tls.Config{RootCAs: f.roots, ServerName: "127.0.0.1"})
		go func() {
			_, _ = conn.Write(data)
			_ = conn.CloseWrite()
		}()
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes came back, %v", protocol, len(got), err)
		}
		conn.Close()
		stranger := new(*db.StrangerError) // such data begins no protocol
		if e := f.ended(t); e.Err != nil && !errors.As(e.Err, stranger) || e.BytesIn != int64(len(data)) || e.BytesOut != int64(len(data)) {
			t.Errorf("%s: ended with %v after %d and %d bytes", protocol, e.Err, e.BytesIn, e.BytesOut)
		}
	}
}

// TestOwnTLS: protocols with TLS of their own, and those that berth does not
// know, are carried as they are.
func TestOwnTLS(t *testing.T) {
	for _, protocol := range []string{"oracle", "newbase"} {
		f := front(t, protocol, serving(t, echo))
		conn := dial(t, f)
		const hello = "\x16\x03\x01\x00\x05hello"
		if _, err := io.WriteString(conn, hello); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(hello))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != hello {
			t.Errorf("%s: %q, %v", protocol, got, err)
		}
	}
}

// TestTLSBeforeProtocolIsKnown: a client that begins with TLS waits until it is
// known whether that is berth's or the server's.
func TestTLSBeforeProtocolIsKnown(t *testing.T) {
	const hello = "\x16\x03\x01\x00\x05hello"
	for _, tt := range []struct {
		protocol string
		ours     bool
	}{{"oracle", false}, {"redis", true}} {
		loggedIn := make(chan struct{})
		name := ""
		up := serving(t, echo)
		f := front(t, tt.protocol, func(ctx context.Context) (proxies.Dial, error) {
			<-loggedIn
			return up(ctx)
		}, func(cfg *proxies.Config, fc *db.FrontConfig) {
			cfg.Hold = patience
			fc.Protocol = func() string {
				select {
				case <-loggedIn:
					return name
				default:
					return ""
				}
			}
		})
		raw := dial(t, f)
		began := make(chan error, 1)
		conn := tls.Client(raw, &tls.Config{RootCAs: f.roots, ServerName: "127.0.0.1"})
		if tt.ours {
			go func() { began <- conn.Handshake() }()
		} else if _, err := io.WriteString(raw, hello); err != nil {
			t.Fatal(err)
		}
		testwait.Moment() // the hello is there
		name = tt.protocol
		close(loggedIn)
		if tt.ours {
			if err := <-began; err != nil {
				t.Errorf("%s: %v", tt.protocol, err)
			}
			continue
		}
		got := make([]byte, len(hello))
		if _, err := io.ReadFull(raw, got); err != nil || string(got) != hello {
			t.Errorf("%s: %q, %v", tt.protocol, got, err)
		}
	}
}

// TestHandshakeThatStalls does not keep a tunnel from ending.
func TestHandshakeThatStalls(t *testing.T) {
	f := front(t, "redis", serving(t, echo))
	if _, err := io.WriteString(dial(t, f), "\x16\x03\x01\x00\x05"); err != nil {
		t.Fatal(err)
	}
	conn := dial(t, f)
	if _, err := io.WriteString(conn, "*1\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		t.Errorf("another client: %v", err)
	}
}

// TestServerSpeaksFirst: what a server says before a client has spoken reaches a
// client that waits, and one that wants TLS.
func TestServerSpeaksFirst(t *testing.T) {
	t.Parallel()
	up := serving(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "-NOPERM no\r\n")
		_, _ = conn.Read(make([]byte, 100))
	})
	f := front(t, "redis", up)
	for _, secure := range []bool{false, true} {
		conn := dial(t, f)
		if secure {
			conn = tls.Client(conn, &tls.Config{RootCAs: f.roots, ServerName: "127.0.0.1"})
		}
		got := make([]byte, 12)
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "-NOPERM no\r\n" {
			t.Errorf("%T hears %q, %v", conn, got, err)
		}
	}
}

func TestRedisCLI(t *testing.T) {
	t.Parallel()
	f := front(t, "redis", simulated(t, simdb.ForProtocol("redis"), simdb.Session{}))
	args := []string{"-h", f.host, "-p", f.port, "PING"}
	for name, more := range map[string][]string{"plain": nil, "verified": {"--tls", "--cacert", f.ca}, "insecure": {"--tls", "--insecure"}} {
		if out, err := program(t, "redis-cli", append(more, args...)...); err != nil || out != "PONG" {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		if e := f.ended(t); e.Err != nil {
			t.Errorf("%s: ended with %v", name, e.Err)
		}
	}
	f = front(t, "redis", held, func(cfg *proxies.Config, _ *db.FrontConfig) { cfg.Hold = 2 * time.Second })
	out, _ := program(t, "redis-cli", "-h", f.host, "-p", f.port, "--tls", "--cacert", f.ca, "PING")
	if !strings.Contains(out, "login needed") {
		t.Errorf("a held client got %s", out)
	}
}

// TestHTTPClients: HTTP over TLS is of the version that the server speaks.
func TestHTTPClients(t *testing.T) {
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "plain", r.TLS == nil, r.Proto) }),
		ReadHeaderTimeout: patience,
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	f := front(t, "elasticsearch", func(context.Context) (proxies.Dial, error) {
		return func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
		}, nil
	})
	out, err := program(t, "curl", "-sS", "--cacert", f.ca, "https://"+net.JoinHostPort(f.host, f.port))
	if err != nil || out != "plain true HTTP/1.1" {
		t.Errorf("curl: %v: %s", err, out)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: f.roots}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("https://" + net.JoinHostPort("localhost", f.port))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "plain true HTTP/1.1\n" {
		t.Errorf("Go's client got %s", body)
	}
}

// mongoServer says hello and answers every command with what it heard.
func mongoServer(conn net.Conn) {
	for {
		head := make([]byte, 16)
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		body := make([]byte, binary.LittleEndian.Uint32(head)-16)
		if _, err := io.ReadFull(conn, body); err != nil {
			return
		}
		doc, err := bson.Marshal(bson.D{
			{Key: "ok", Value: 1}, {Key: "helloOk", Value: true}, {Key: "isWritablePrimary", Value: true}, {Key: "ismaster", Value: true},
			{Key: "maxBsonObjectSize", Value: 16 << 20}, {Key: "maxMessageSizeBytes", Value: 48000000}, {Key: "maxWriteBatchSize", Value: 100000},
			{Key: "minWireVersion", Value: 0}, {Key: "maxWireVersion", Value: 21}, {Key: "heard", Value: len(body)},
		})
		if err != nil {
			return
		}
		const query, reply, msg = 2004, 1, 2013
		kind, rest := uint32(msg), make([]byte, 5) // flags, a section that is a document
		if binary.LittleEndian.Uint32(head[12:]) == query {
			kind, rest = reply, append(make([]byte, 4+8+4), 1, 0, 0, 0)
		}
		answer := binary.LittleEndian.AppendUint32(nil, uint32(16+len(rest)+len(doc)))
		answer = append(append(answer, 0, 0, 0, 0), head[4:8]...)
		answer = binary.LittleEndian.AppendUint32(answer, kind)
		if _, err := conn.Write(append(append(answer, rest...), doc...)); err != nil {
			return
		}
	}
}

func TestMongoDBDriver(t *testing.T) {
	t.Parallel()
	f := front(t, "mongodb", serving(t, mongoServer))
	ping := func(query string, limit time.Duration) error {
		client, err := mongo.Connect(options.Client().SetServerSelectionTimeout(limit).
			ApplyURI("mongodb://" + net.JoinHostPort(f.host, f.port) + "/?directConnection=true" + query))
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := client.Disconnect(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		}()
		return client.Ping(t.Context(), nil)
	}
	// The driver tries until its limit, and then says why the last attempt failed. On a
	// busy machine even the first may not be over.
	fails := func(query, why string) {
		var err error
		for limit := time.Second; limit < testwait.Patience; limit *= 2 {
			if err = ping(query, limit); err == nil || strings.Contains(err.Error(), why) {
				break
			}
		}
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v, want %s", query, err, why)
		}
	}
	for _, query := range []string{"", "&tls=true&tlsCAFile=" + f.ca, "&tls=true&tlsInsecure=true"} {
		if err := ping(query, patience); err != nil {
			t.Errorf("%q: %v", query, err)
		}
	}
	fails("&tls=true", "unknown authority")
	f = front(t, "mongodb", held, func(cfg *proxies.Config, _ *db.FrontConfig) { cfg.Hold = 500 * time.Millisecond })
	fails("&tls=true&tlsCAFile="+f.ca, "login needed")
}
