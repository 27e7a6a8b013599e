//go:build unix

package kube

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkRequest is one request through a tunnel, without it, and through the
// least that a proxy of two HTTP/2 connections can be. Besides the time it
// reports the processor's: client, proxy and server share this process.
func BenchmarkRequest(b *testing.B) {
	for size, about := range map[int]string{1 << 10: "1KiB", 4 << 10: "4KiB", 64 << 10: "64KiB"} {
		body := strings.Repeat("x", size)
		c := newCluster(b, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = io.WriteString(w, body)
		})
		up := c.upstream()
		r := run(b, Config{Source: always(up), Now: func() *Upstream { return up }})
		bare := bareProxy(b, c)
		for name, way := range map[string]struct {
			client *http.Client
			url    string
		}{
			"direct": {c.Client(), c.URL},
			"bare":   {bare.Client(), bare.URL},
			"tunnel": {kubectl(b, "prod"), "https://" + r.addr()},
		} {
			b.Run(about+"/"+name, func(b *testing.B) { benchGet(b, way.client, way.url, size) })
		}
	}
}

// bareProxy is the standard library's own, as it is.
func bareProxy(b *testing.B, c *cluster) *httptest.Server {
	b.Helper()
	tr := &http.Transport{TLSClientConfig: c.Client().Transport.(*http.Transport).TLSClientConfig, ForceAttemptHTTP2: true}
	s := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Transport: tr, Rewrite: func(pr *httputil.ProxyRequest) { pr.SetURL(mustURL(c.URL)) },
	})
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	s.StartTLS()
	b.Cleanup(func() { s.Close(); tr.CloseIdleConnections() })
	return s
}

func benchGet(b *testing.B, client *http.Client, url string, size int) {
	b.SetParallelism(4)
	b.ReportAllocs()
	before := cpuTime(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			resp, err := client.Get(url + "/api/v1/pods")
			if err != nil {
				b.Error(err)
				return
			}
			if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(size) {
				b.Errorf("%d bytes, %v", n, err)
			}
			_ = resp.Body.Close() // it was read to its end
		}
	})
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
