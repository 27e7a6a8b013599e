package kube

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkRequest is one request through a tunnel, and without it.
func BenchmarkRequest(b *testing.B) {
	body := strings.Repeat("x", 4<<10)
	c := newCluster(b, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = io.WriteString(w, body)
	})
	r := run(b, Config{Source: always(c.upstream())})
	for name, way := range map[string]struct {
		client *http.Client
		url    string
	}{
		"direct": {c.Client(), c.URL},
		"tunnel": {kubectl(b, "prod"), "https://" + r.addr()},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(4)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					resp, err := way.client.Get(way.url + "/api/v1/pods")
					if err != nil {
						b.Error(err)
						return
					}
					if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(len(body)) {
						b.Errorf("%d bytes, %v", n, err)
					}
					_ = resp.Body.Close() // it was read to its end
				}
			})
		})
	}
}
