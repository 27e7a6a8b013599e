//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"berth/internal/simcluster/simdb"
	"berth/internal/simcluster/simkube"
)

// askPath is where web servers of the world say who they are and what they were
// asked.
const askPath = "/chaos"

// named is what a server says to whoever asks who it is.
func named(server, token string) string { return server + " " + token }

// webBackend is a database that speaks HTTP.
type webBackend struct{ name string }

// Serve answers requests until the client leaves.
func (b webBackend) Serve(ctx context.Context, conn net.Conn, _ simdb.Session) error {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // cut on purpose
	r := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return nil //nolint:nilerr // the client has left
		}
		_ = req.Body.Close() // there is none
		said := named(b.name, req.URL.Query().Get("token"))
		resp := http.Response{
			StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(said)),
			Body: io.NopCloser(strings.NewReader(said)),
		}
		if err := resp.Write(conn); err != nil {
			return err
		}
	}
}

// namedRedis is a Redis with one value from the start: its name.
type namedRedis struct {
	*simdb.Redis
}

func newNamedRedis(name string) namedRedis {
	r := namedRedis{simdb.NewRedis()}
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Serve(context.Background(), server, simdb.Session{}) // it ends with the pipe
	}()
	_, err := fmt.Fprintf(client, "*3\r\n$3\r\nSET\r\n$3\r\nwho\r\n$%d\r\n%s\r\n", len(name), name)
	if err == nil {
		_, err = bufio.NewReader(client).ReadString('\n')
	}
	_ = client.Close() // nothing more is said
	<-done
	if err != nil {
		panic(fmt.Sprintf("fill a Redis: %v", err)) // a pipe in this process does not fail
	}
	return r
}

// kubeHandler is an API server that says its name too.
func kubeHandler(name string, api *simkube.Server) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != askPath {
			api.ServeHTTP(w, r)
			return
		}
		_, _ = io.WriteString(w, named(name, r.URL.Query().Get("token"))) // or the client left
	})
}
