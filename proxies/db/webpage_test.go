package db_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"berth/internal/testwait"
	"berth/proxies"
	"berth/proxies/db"
)

// counting is a Source of connections to an HTTP server that counts what it reads.
func counting(t *testing.T) (proxies.Source, *atomic.Int64) {
	var heard atomic.Int64
	return serving(t, func(conn net.Conn) {
		in := bufio.NewReader(&countedReader{conn, &heard})
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}), &heard
}

type countedReader struct {
	io.Reader
	sum *atomic.Int64
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.sum.Add(int64(n))
	return n, err
}

// request is one as a client writes it. PORT stands for the tunnel's.
func request(f *fronted, line string, header ...string) string {
	text := line + " HTTP/1.1\r\n" + strings.Join(append(header, "", ""), "\r\n")
	return strings.ReplaceAll(text, "PORT", f.port)
}

// TestWebPagesAreRefused sends what a browser would for a page from elsewhere, and
// what clients send: of the former nothing reaches the database.
func TestWebPagesAreRefused(t *testing.T) {
	src, heard := counting(t)
	const local, evil, cross = "Host: 127.0.0.1:PORT", "Origin: https://evil.example", "Sec-Fetch-Site: cross-site"
	const docker = "Host: host.docker.internal:PORT"
	tests := map[string]struct {
		line   string
		header []string
		want   int
	}{
		"curl":            {"GET /", []string{local}, 200},
		"curl_posts":      {"POST /i/_search", []string{local, "Content-Length: 0"}, 200},
		"localhost":       {"GET /", []string{"Host: localhost:PORT"}, 200},
		"ipv6":            {"GET /", []string{"Host: [::1]:PORT"}, 200},
		"ipv4_in_ipv6":    {"GET /", []string{"Host: [::ffff:127.0.0.1]:PORT"}, 403},
		"container":       {"GET /", []string{docker}, 200},
		"docker_node":     {"POST /", []string{docker, "User-Agent: node", "Sec-Fetch-Mode: cors", "Content-Length: 0"}, 200},
		"docker_image":    {"GET /?query=drop", []string{docker, "User-Agent: Mozilla/5.0"}, 403},
		"docker_dot":      {"GET /?query=drop", []string{"Host: host.docker.internal.:PORT", "User-Agent: Mozilla/5.0"}, 403},
		"docker_referer":  {"GET /", []string{docker, "Referer: http://evil.example/"}, 403},
		"docker_cookie":   {"GET /", []string{docker, "Cookie: a=b"}, 403},
		"docker_privacy":  {"GET /", []string{docker, "Sec-GPC: 1"}, 403},
		"docker_page":     {"POST /", []string{docker, "Origin: http://host.docker.internal:PORT", "Content-Length: 0"}, 403},
		"docker_origin":   {"POST /", []string{local, "Origin: http://host.docker.internal:8080", "Content-Length: 0"}, 403},
		"no_host":         {"GET /", nil, 200},
		"long_address":    {"GET /?query=" + strings.Repeat("x", 100<<10), []string{local}, 200},
		"typed_address":   {"GET /", []string{local, "Sec-Fetch-Site: none"}, 200},
		"own_page":        {"POST /", []string{local, "Origin: http://127.0.0.1:PORT", "Sec-Fetch-Site: same-origin", "Content-Length: 0"}, 200},
		"own_preflight":   {"OPTIONS /", []string{local, "Origin: http://localhost:8080", "Access-Control-Request-Method: DELETE"}, 200},
		"app":             {"POST /", []string{local, "Origin: app://search", cross, "Content-Length: 0"}, 200},
		"rebound_name":    {"GET /", []string{"Host: evil.example:PORT"}, 403},
		"rebound_method":  {"sEARCH /", []string{"Host: evil.example:PORT"}, 403},
		"rebound_address": {"GET /" + strings.Repeat("x", 100<<10), []string{"Host: evil.example:PORT"}, 403},
		"looks_like_ours": {"GET /", []string{"Host: localhost.evil.example"}, 403},
		"foreign_page":    {"POST /i/_delete_by_query?q=*", []string{local, evil, "Content-Length: 0"}, 403},
		"foreign_fetch":   {"POST /", []string{local, evil, cross, "Content-Length: 0"}, 403},
		"image_tag":       {"GET /", []string{local, cross}, 403},
		"sandbox":         {"POST /", []string{local, "Origin: null", cross, "Content-Length: 0"}, 403},
		"old_sandbox":     {"POST /", []string{local, "Origin: null", "Content-Length: 0"}, 403},
		"web_socket":      {"GET /", []string{local, evil, "Connection: Upgrade", "Upgrade: websocket"}, 403},
		"preflight":       {"OPTIONS /", []string{local, evil, "Access-Control-Request-Method: DELETE"}, 403},
		"head_too_long":   {"GET /" + strings.Repeat("x", 1<<20+8<<10), []string{"Host: evil.example:PORT"}, 431},
	}
	for _, protocol := range []string{"elasticsearch", "opensearch", "clickhouse", "clickhouse-http", "dynamodb", "snowflake"} {
		f := front(t, protocol, src)
		for name, tt := range tests {
			for _, way := range []string{"plain", "split", "tls"} {
				if protocol != "elasticsearch" && way != "plain" {
					continue
				}
				t.Run(protocol+"/"+name+"/"+way, func(t *testing.T) {
					before, text := heard.Load(), request(f, tt.line, tt.header...)
					conn := dial(t, f)
					if way == "tls" {
						conn = tls.Client(conn, &tls.Config{RootCAs: f.roots, ServerName: "127.0.0.1"})
					}
					half := 0
					if way == "split" {
						half = len(text) / 2
						_, _ = io.WriteString(conn, text[:half])
						testwait.Moment()
					}
					_, _ = io.WriteString(conn, text[half:]) // it may be refused before all is written
					resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
					if err != nil {
						t.Fatal(err)
					}
					body, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode != tt.want {
						t.Errorf("answer is %d %q, want %d", resp.StatusCode, body, tt.want)
					}
					if tt.want == 403 && !strings.HasPrefix(string(body), "berth serves no web pages") {
						t.Errorf("it reads %q", body)
					}
					conn.Close()
					e, size := f.ended(t), int64(len(text))
					if tt.want != 200 {
						size = 0
						if e.Err == nil || !strings.Contains(e.Err.Error(), "HTTP of a web page") {
							t.Errorf("it ended with %v", e.Err)
						}
					}
					if n := heard.Load() - before; n != size || e.BytesOut != size {
						t.Errorf("%d bytes were passed on, and %d read, want %d", e.BytesOut, n, size)
					}
				})
			}
		}
	}
}

// TestWebPageOfAUsedConnection: a browser sends requests of all its pages over the
// connections it has, so each of them is looked at.
func TestWebPageOfAUsedConnection(t *testing.T) {
	src, heard := counting(t)
	f := front(t, "clickhouse-http", src)
	conn := dial(t, f)
	in := bufio.NewReader(conn)
	passed := 0
	for i, tt := range []struct {
		text string
		want int
	}{
		{request(f, "GET /play", "Host: 127.0.0.1:PORT", "Sec-Fetch-Site: none"), 200},
		{request(f, "POST /", "Host: 127.0.0.1:PORT", "Origin: http://127.0.0.1:PORT", "Sec-Fetch-Site: same-origin", "Content-Length: 8") + "select 1", 200},
		{request(f, "POST /", "Host: 127.0.0.1:PORT", "Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Content-Length: 8") + "drop t\r\n", 403},
	} {
		if _, err := io.WriteString(conn, tt.text); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("request %d is answered %d, want %d", i, resp.StatusCode, tt.want)
		}
		if tt.want == 200 {
			passed += len(tt.text)
		}
	}
	if e := f.ended(t); e.BytesOut != int64(passed) || heard.Load() != int64(passed) {
		t.Errorf("%d bytes were passed on, and %d read, want %d", e.BytesOut, heard.Load(), passed)
	}
}

// TestWebPageBeforeProtocolIsKnown: a page that comes before the first login is looked
// at, too, once it is known what the tunnel carries, and when that is never known.
func TestWebPageBeforeProtocolIsKnown(t *testing.T) {
	for _, protocol := range []string{"elasticsearch", ""} {
		src, heard := counting(t)
		loggedIn := make(chan struct{})
		f := front(t, "elasticsearch", func(ctx context.Context) (proxies.Dial, error) {
			<-loggedIn
			return src(ctx)
		}, func(cfg *proxies.Config, fc *db.FrontConfig) {
			cfg.Hold = patience
			fc.Protocol = func() string {
				select {
				case <-loggedIn:
					return protocol
				default:
					return ""
				}
			}
		})
		page, curl := dial(t, f), dial(t, f)
		_, _ = io.WriteString(page, request(f, "GET /", "Host: evil.example:PORT"))
		asked := request(f, "GET /", "Host: 127.0.0.1:PORT")
		_, _ = io.WriteString(curl, asked)
		testwait.Moment() // both have been read
		close(loggedIn)
		for conn, want := range map[net.Conn]int{page: 403, curl: 200} {
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("protocol %q: answered %d, want %d", protocol, resp.StatusCode, want)
			}
		}
		if n := heard.Load(); n != int64(len(asked)) {
			t.Errorf("protocol %q: the database reads %d bytes, want curl's %d", protocol, n, len(asked))
		}
	}
}

// TestWebPageThatHangsUp: the request of a page that has gone before the protocol is known
// is looked at as well.
func TestWebPageThatHangsUp(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for said, passes := range map[string]bool{
		"POST /i HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n": false,
		"POST /i HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n":    true,
		"GET /": true, // no request
	} {
		out, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		in, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(out, said)
		_ = out.(*net.TCPConn).CloseWrite()
		front := db.NewFront(in.(*net.TCPConn), nil, db.FrontConfig{Protocol: func() string { return "" }})
		want := ""
		if passes {
			want = said
		}
		if passed, err := io.ReadAll(front); string(passed) != want || (err == nil) != passes {
			t.Errorf("of %q passes %q, %v", said, passed, err)
		}
		in.Close()
		out.Close()
	}
}
