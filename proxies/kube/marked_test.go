package kube

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"berth/internal/testwait"
)

// TestMarkedAreClosed: requests with a credential that should no longer be used end, also
// while they wait for a connection, and those that wait for the next one go on waiting.
func TestMarkedAreClosed(t *testing.T) {
	t.Parallel()
	up := newCluster(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		if isWatch(r) {
			<-r.Context().Done()
		}
	}).upstream()
	dials := make(chan struct{})
	slow := &Upstream{Dial: func(ctx context.Context, _ ...string) (net.Conn, error) {
		close(dials)
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	var now atomic.Pointer[Upstream]
	login := make(chan struct{})
	r := run(t, Config{Hold: patienceInTests, Now: now.Load, Source: func(ctx context.Context) (*Upstream, error) {
		select {
		case <-login:
			return up, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	url := "https://" + r.addr() + "/api/v1/namespaces/default/pods"
	ask := func() <-chan int {
		code := make(chan int, 1)
		client := kubectl(t, "prod")
		go func() {
			resp, err := client.Get(url)
			if err != nil {
				t.Error(err)
				code <- 0
				return
			}
			defer resp.Body.Close()
			_, _ = io.Copy(io.Discard, resp.Body)
			code <- resp.StatusCode
		}()
		return code
	}

	now.Store(up)
	open := watch(t, kubectl(t, "prod"), r.addr())
	now.Store(slow)
	dialling := ask()
	<-dials
	now.Store(nil)
	held := ask()
	testwait.Eventually(t, "the last one is held", func() bool { return r.Status().Waiting > 0 && r.Status().Connections == 3 })

	r.MarkConnections()
	if s := r.Status(); s.Marked != 2 {
		t.Errorf("marked are %d of %d, want 2 of 3", s.Marked, s.Connections)
	}
	r.CloseMarked()
	if open.Scan() || open.Err() != nil {
		t.Errorf("the watch says %q, %v; want its end", open.Text(), open.Err())
	}
	if code := <-dialling; code == http.StatusOK {
		t.Error("a request is served whose dial had the old credential")
	}
	close(login)
	if code := <-held; code != http.StatusOK {
		t.Errorf("the held request is answered %d", code)
	}
}

// TestMarkedWhileSourceReturns: a credential that Source or Now returns while requests are
// marked may be one of those that should no longer be used.
func TestMarkedWhileSourceReturns(t *testing.T) {
	t.Parallel()
	c := newCluster(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	old := &Upstream{Dial: func(context.Context, ...string) (net.Conn, error) {
		t.Error("dialled with what may be the old credential")
		return nil, io.ErrUnexpectedEOF
	}}
	for _, at := range []string{"now", "source"} {
		var r *running
		var marked atomic.Bool
		from := func(what string, other *Upstream) *Upstream {
			if what == at && !marked.Swap(true) {
				r.MarkConnections()
				return old
			}
			return other
		}
		fresh := c.upstream()
		r = run(t, Config{
			Name:   "prod",
			Now:    func() *Upstream { return from("now", nil) },
			Source: func(context.Context) (*Upstream, error) { return from("source", fresh), nil },
		})
		if a, body := get(t, kubectl(t, "prod"), "https://"+r.addr()+"/api/v1/pods"); a.Code != http.StatusOK || body != "ok" {
			t.Errorf("%s: answered %d %q", at, a.Code, body)
		}
		if s := r.Status(); s.Marked != 0 {
			t.Errorf("%s: %d are marked", at, s.Marked)
		}
	}
}
