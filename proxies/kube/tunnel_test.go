package kube

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/internal/testneeds"
	"berth/internal/testwait"
	"berth/internal/wake"
	"berth/proxies"
)

// answer is the head of an http.Response.
type answer struct {
	Code   int
	Header http.Header
}

func get(t *testing.T, c *http.Client, url string) (answer, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header}, string(body)
}

// statusOf is the Status object that kubectl would print.
func statusOf(t *testing.T, code int, body string) status {
	t.Helper()
	var s status
	if err := json.Unmarshal([]byte(body), &s); err != nil || s.Kind != "Status" || s.Code != code {
		t.Fatalf("%d with %q is no Status: %v", code, body, err)
	}
	return s
}

// TestRequestIsPassedOnUnchanged compares what the client sent with what
// arrives, and the same for the answer.
func TestRequestIsPassedOnUnchanged(t *testing.T) {
	t.Parallel()
	type seen struct {
		Proto, Method, URI, Host, Body string
		Header                         http.Header
	}
	got := make(chan seen, 1)
	c := newCluster(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- seen{r.Proto, r.Method, r.RequestURI, r.Host, string(body), r.Header}
		w.Header().Set("Audit-Id", "7")
		w.Header().Set("Trailer", "X-End")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "made")
		w.Header().Set("X-End", "yes")
	})
	r := run(t, Config{Source: always(c.upstream())})
	uri := "/api/v1/namespaces/a%2Fb/pods/x:1/proxy//y?fieldManager=a;b&watch=0&q=%zz"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, "https://"+r.addr()+uri, strings.NewReader("spec: {}"))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{
		"Content-Type": "application/apply-patch+yaml", "Accept": "application/json;as=Table", "User-Agent": "kubectl/v1",
		"X-Forwarded-For": "10.0.0.1", "Impersonate-User": "jane", "Impersonate-Extra-Scopes": "view", "Accept-Encoding": "gzip",
	} {
		req.Header.Set(k, v)
	}
	want := req.Header.Clone()
	want.Set("Content-Length", "8")
	resp, err := kubectl(t, "prod").Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if diff := cmp.Diff(seen{"HTTP/2.0", "PATCH", uri, r.addr(), "spec: {}", want}, <-got); diff != "" {
		t.Errorf("request differs (-sent +arrived):\n%s", diff)
	}
	if resp.StatusCode != 201 || string(body) != "made" || resp.Header.Get("Audit-Id") != "7" || resp.Trailer.Get("X-End") != "yes" {
		t.Errorf("answer is %d %q, %v, %v", resp.StatusCode, body, resp.Header, resp.Trailer)
	}
	if s := r.Status(); s.BytesIn != 4 || s.BytesOut != 8 || s.TotalConnections != 1 {
		t.Errorf("status counts %+v", s)
	}
	r.stop()
	if diff := cmp.Diff([]proxies.EventKind{proxies.EventAccepted, proxies.EventConnected, proxies.EventClosed}, r.events.kinds()); diff != "" {
		t.Errorf("events differ (-want +got):\n%s", diff)
	}
}

func TestImpersonation(t *testing.T) {
	c := newCluster(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Header.Get("Impersonate-User"), strings.Join(r.Header.Values("Impersonate-Group"), ","))
	})
	tests := map[string]struct {
		cfg    Config
		header http.Header
		want   string
	}{
		"setting":              {Config{As: "jane", AsGroups: []string{"dev", "ops"}}, nil, "jane dev,ops"},
		"groups_alone":         {Config{AsGroups: []string{"dev"}}, nil, " dev"},
		"client_says_who":      {Config{As: "jane", AsGroups: []string{"dev"}}, http.Header{"Impersonate-User": {"joe"}}, "joe "},
		"client_says_group":    {Config{As: "jane"}, http.Header{"Impersonate-Group": {"ops"}}, " ops"},
		"nobody_says_anything": {Config{}, nil, " "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.cfg.Source = always(c.upstream())
			r := run(t, tt.cfg)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+r.addr()+"/api/v1/pods", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Header = tt.header.Clone()
			resp, err := kubectl(t, "prod").Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, _ := io.ReadAll(resp.Body); string(body) != tt.want {
				t.Errorf("arrived as %q, want %q", body, tt.want)
			}
		})
	}
}

// TestFortyAtOnce checks that a crowd of clients shares one connection to the
// proxy, the very first ones too.
func TestFortyAtOnce(t *testing.T) {
	c := newCluster(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "v1") })
	up := c.upstream()
	dial := up.Dial
	up.Dial = func(ctx context.Context, versions ...string) (conn net.Conn, err error) {
		wake.Sleep(ctx, 50*time.Millisecond)
		return dial(ctx, versions...)
	}
	r := run(t, Config{Source: always(up)})
	var wg sync.WaitGroup
	for range 40 {
		client := kubectl(t, "prod")
		wg.Go(func() {
			resp, err := client.Get("https://" + r.addr() + "/version")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "v1" {
				t.Errorf("got %q, %v", body, err)
			}
		})
	}
	wg.Wait()
	if n := c.dials.Load(); n != 1 {
		t.Errorf("40 clients made %d connections to the proxy, want 1", n)
	}
}

// TestHeldRequestDialsCalmly: a proxy that refuses at once does not keep a processor
// busy with the dials of one held request.
func TestHeldRequestDialsCalmly(t *testing.T) {
	t.Parallel()
	var dials atomic.Int32
	up := &Upstream{Dial: func(context.Context, ...string) (net.Conn, error) {
		dials.Add(1)
		return nil, errors.New("connection refused")
	}}
	r := run(t, Config{Source: always(up), Hold: time.Second, Again: func(error) bool { return true }})
	resp, err := kubectl(t, "prod").Get("https://" + r.addr() + "/api/v1/pods")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode < 500 {
		t.Errorf("answered %s", resp.Status)
	}
	if n := dials.Load(); n > 20 {
		t.Errorf("%d dials within a second", n)
	}
}

// TestUnreachableProxyAndPatience: while the proxy is away a request is answered in its
// client's own time, with why. Another one that waits for the same dial goes on.
func TestUnreachableProxyAndPatience(t *testing.T) {
	t.Parallel()
	c := newCluster(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") })
	var away atomic.Bool
	away.Store(true)
	up, there := c.upstream(), c.upstream().Dial
	up.Dial = func(ctx context.Context, versions ...string) (net.Conn, error) {
		if away.Load() {
			return nil, errors.New("no route to host")
		}
		return there(ctx, versions...)
	}
	r := run(t, Config{Source: always(up), Now: func() *Upstream { return up }, Hold: time.Hour, Again: func(error) bool { return true }})
	served := make(chan string, 1)
	patient, impatient := kubectl(t, "prod"), kubectl(t, "prod")
	ask := func() {
		resp, err := patient.Get("https://" + r.addr() + "/api/v1/pods")
		if err != nil {
			served <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		served <- string(body)
	}
	for _, first := range []bool{true, false} { // whose dial it is
		away.Store(true)
		r.CloseConnections()
		if first {
			go ask()
			testwait.Eventually(t, "the patient request waits", func() bool { return r.Status().Waiting == 1 })
		} else {
			time.AfterFunc(500*time.Millisecond, ask)
		}
		began := time.Now()
		resp, body := get(t, impatient, "https://"+r.addr()+"/api/v1/pods?timeout=2s")
		if s := statusOf(t, resp.Code, body); s.Code < 500 || !strings.Contains(s.Message, "no route to host") {
			t.Errorf("the impatient request gets %+v", s)
		}
		testwait.Soon(t, "its answer", time.Since(began), 1900*time.Millisecond)
		testwait.Eventually(t, "the patient request alone waits", func() bool { s := r.Status(); return s.Waiting == 1 && s.Connections == 1 })
		away.Store(false)
		if got := <-served; got != "served" {
			t.Errorf("the patient request gets %q", got)
		}
		testwait.Eventually(t, "no request waits", func() bool { s := r.Status(); return s.Waiting == 0 && s.Connections == 0 })
	}
}

// TestUnreachableProxyHoldsOnce: a client whose request was held for as long as it may
// be while the proxy is away is not held again.
func TestUnreachableProxyHoldsOnce(t *testing.T) {
	t.Parallel()
	up := &Upstream{Dial: func(context.Context, ...string) (net.Conn, error) { return nil, errors.New("no route to host") }}
	r := run(t, Config{Source: always(up), Hold: proxies.MaxDialTimeout, Again: func(error) bool { return true }})
	client := kubectl(t, "prod")
	began := time.Now()
	for range 3 {
		if resp, body := get(t, client, "https://"+r.addr()+"/api/v1/pods"); resp.Code < 500 || !strings.Contains(body, "no route to host") {
			t.Errorf("answered %d %q", resp.Code, body)
		}
	}
	testwait.Soon(t, "three answers", time.Since(began), proxies.MaxDialTimeout+2*holdAgain+time.Second)
}

// TestDialEndsWithItsRequests: nobody dials for requests that are gone, which
// net/http would.
func TestDialEndsWithItsRequests(t *testing.T) {
	t.Parallel()
	var dialling atomic.Int32
	up := &Upstream{Dial: func(context.Context, ...string) (net.Conn, error) {
		dialling.Store(1)
		return nil, errors.New("connection refused")
	}}
	r := run(t, Config{Source: always(up), Hold: time.Hour, Again: func(error) bool { return true }})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+r.addr()+"/api/v1/pods", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		resp, err := kubectl(t, "prod").Do(req)
		if err == nil {
			resp.Body.Close()
		}
		done <- err
	}()
	testwait.Eventually(t, "a dial", func() bool { return dialling.Load() == 1 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the request: %v", err)
	}
	testwait.Eventually(t, "the dials to end", func() bool { // there are some a second else
		dialling.Store(0)
		wake.Sleep(t.Context(), 300*time.Millisecond)
		return dialling.Load() == 0
	})
}

// TestRequestsLeaveNoDials: requests that have given up leave no dials behind beside that
// of one that waits.
func TestRequestsLeaveNoDials(t *testing.T) {
	t.Parallel()
	up := &Upstream{Dial: func(context.Context, ...string) (net.Conn, error) { return nil, errors.New("no route to host") }}
	r := run(t, Config{Source: always(up), Now: func() *Upstream { return up }, Hold: time.Hour, Again: func(error) bool { return true }})
	dials := func() int {
		tr := r.transportOf(up)
		defer tr.release()
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return tr.dials
	}
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	ask := func(query string) {
		client := kubectl(t, "prod")
		asking.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+r.addr()+"/api/v1/pods"+query, http.NoBody)
			if err != nil {
				t.Error(err)
				return
			}
			if resp, err := client.Do(req); err == nil {
				resp.Body.Close()
			}
		})
	}
	const impatient = 6
	for i := range impatient { // each dials from when the one before has given up
		ask(fmt.Sprintf("?timeout=%dms", 600+200*i))
	}
	testwait.Eventually(t, "them to have come", func() bool {
		came := slices.DeleteFunc(r.events.kinds(), func(k proxies.EventKind) bool { return k != proxies.EventAccepted })
		return len(came) == impatient
	})
	ask("")
	testwait.Eventually(t, "it to wait alone", func() bool {
		refused := slices.DeleteFunc(r.events.kinds(), func(k proxies.EventKind) bool { return k != proxies.EventRefused })
		return len(refused) == impatient && r.Status().Connections == 1
	})
	testwait.Eventually(t, "all dials but one to end", func() bool { return dials() == 1 })
	cancel()
	asking.Wait()
}

// TestFailureIsForgotten: what a dial met with says nothing of a later one.
func TestFailureIsForgotten(t *testing.T) {
	t.Parallel()
	c := newCluster(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") })
	var there atomic.Bool
	dialling, slow := make(chan struct{}), make(chan struct{})
	up := c.upstream()
	dial := up.Dial
	up.Dial = func(ctx context.Context, versions ...string) (net.Conn, error) {
		if !there.Load() {
			return nil, errors.New("no route to host")
		}
		close(dialling)
		<-slow
		return dial(ctx, versions...)
	}
	r := run(t, Config{Source: always(up), Now: func() *Upstream { return up }, Hold: time.Hour, Again: func(error) bool { return false }})
	client := kubectl(t, "prod")
	if resp, body := get(t, client, "https://"+r.addr()+"/api/v1/pods"); resp.Code < 500 {
		t.Errorf("answered %d %q", resp.Code, body)
	}
	there.Store(true)
	answered := make(chan string, 1)
	go func() {
		resp, err := client.Get("https://" + r.addr() + "/api/v1/pods")
		if err != nil {
			answered <- err.Error()
			return
		}
		resp.Body.Close()
		answered <- resp.Status
	}()
	<-dialling
	testwait.Never(t, "a request that waits, while a dial takes its time", func() bool { return r.Status().Waiting != 0 })
	close(slow)
	if got := <-answered; got != "200 OK" {
		t.Errorf("answered %q", got)
	}
}

// TestDialFailureIsShared checks that a crowd does not wait for one failing
// dial after the other.
func TestDialFailureIsShared(t *testing.T) {
	t.Parallel()
	const crowd = 20
	var dials, came atomic.Int32
	noRoute := errors.New("no route to host")
	up := &Upstream{Dial: func(ctx context.Context, _ ...string) (net.Conn, error) {
		if dials.Add(1) == 1 { // until all are there, however slowly they come
			testwait.Until(func() bool { return came.Load() >= crowd })
		}
		wake.Sleep(ctx, 300*time.Millisecond)
		return nil, noRoute
	}}
	r := run(t, Config{Source: func(context.Context) (*Upstream, error) { came.Add(1); return up, nil }})
	var wg sync.WaitGroup
	for range crowd {
		client := kubectl(t, "prod")
		wg.Go(func() {
			resp, err := client.Get("https://" + r.addr() + "/api/v1/pods")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 503 || !strings.Contains(string(body), "no route to host") {
				t.Errorf("got %d %q", resp.StatusCode, body)
			}
		})
	}
	wg.Wait()
	if dials.Load() > crowd/3 {
		t.Errorf("%d dials", dials.Load())
	}
	if s := r.Status(); !errors.Is(s.LastError, noRoute) {
		t.Errorf("last error is %v", s.LastError)
	}
}

// watch opens a stream that says a line for every tick it is given.
func watch(t *testing.T, c *http.Client, addr string) *bufio.Scanner {
	t.Helper()
	return follow(t, c, "https://"+addr+"/api/v1/pods?watch=true")
}

// follow opens a stream and reads its lines.
func follow(t *testing.T, c *http.Client, address string) *bufio.Scanner {
	t.Helper()
	resp, err := c.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return bufio.NewScanner(resp.Body)
}

// ticking answers every request with a line per tick.
func ticking(ticks *sync.Map) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		tick := make(chan string)
		ticks.Store(tick, true)
		defer ticks.Delete(tick)
		_ = http.NewResponseController(w).Flush()
		for {
			select {
			case s := <-tick:
				fmt.Fprintln(w, s)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}
}

func sendAll(ticks *sync.Map, line string) {
	ticks.Range(func(tick, _ any) bool { tick.(chan string) <- line; return true })
}

// TestCertIsSwappedUnderWatches gives the tunnel another credential while a
// watch runs: the watch goes on over the old connection, which is closed when
// the watch ends; new requests take a new one.
func TestCertIsSwappedUnderWatches(t *testing.T) {
	var ticks sync.Map
	c := newCluster(t, ticking(&ticks))
	var cur atomic.Pointer[Upstream]
	cur.Store(c.upstream())
	r := run(t, Config{Source: func(context.Context) (*Upstream, error) { return cur.Load(), nil }})
	oldClient := kubectl(t, "prod")
	old := watch(t, oldClient, r.addr())
	testwait.Eventually(t, "watch is open", func() bool { return r.Status().Connections == 1 })
	for range 3 {
		cur.Store(c.upstream())
		fresh := watch(t, kubectl(t, "prod"), r.addr())
		sendAll(&ticks, "ADDED")
		if !old.Scan() || old.Text() != "ADDED" || !fresh.Scan() || fresh.Text() != "ADDED" {
			t.Fatalf("watches say %q, %v and %q, %v", old.Text(), old.Err(), fresh.Text(), fresh.Err())
		}
	}
	if n := c.dials.Load(); n != 4 {
		t.Errorf("%d connections for 4 credentials", n)
	}
	oldClient.CloseIdleConnections()
	r.end(context.Canceled)
	testwait.Eventually(t, "connections of old credentials are closed", func() bool { return c.conns.Load() <= 1 })
}

// TestHold holds requests until there is a login, all for one.
func TestHold(t *testing.T) {
	c := newCluster(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	up := c.upstream()
	login := make(chan struct{})
	r := run(t, Config{Hold: patienceInTests, Source: func(ctx context.Context) (*Upstream, error) {
		select {
		case <-login:
			return up, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	client := kubectl(t, "prod") // all requests over one connection
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			resp, err := client.Get("https://" + r.addr() + "/api/v1/pods")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("answer is %d", resp.StatusCode)
			}
		})
	}
	testwait.Eventually(t, "five wait", func() bool { return r.Status().Waiting == 5 })
	if s := r.Status(); s.Connections != 5 || s.OldestWait.IsZero() {
		t.Errorf("status of the waiting: %+v", s)
	}
	close(login)
	wg.Wait()
	testwait.Eventually(t, "no client waits", func() bool { s := r.Status(); return s.Waiting == 0 && s.Connections == 0 })
	waiting := slices.DeleteFunc(r.events.kinds(), func(k proxies.EventKind) bool { return k != proxies.EventWaiting })
	if len(waiting) != 1 {
		t.Errorf("the connection was told to wait %d times, want once", len(waiting))
	}
}

func TestHoldEnds(t *testing.T) {
	t.Parallel()
	never := func(ctx context.Context) (*Upstream, error) {
		<-ctx.Done()
		return nil, fmt.Errorf("logged out: %w", ctx.Err())
	}
	refuse := func(err error) Refusal {
		if errors.Is(err, proxies.ErrStopped) {
			return Refusal{Code: 503, Message: "stopped"}
		}
		if !errors.Is(err, proxies.ErrHoldEnded) {
			t.Errorf("refused for %v", err)
		}
		return Refusal{Code: 401, Message: "Login needed at example.com.\nRun: berth login \x1b[31mexample.com"}
	}
	r := run(t, Config{Hold: 300 * time.Millisecond, Source: never, Refuse: refuse})
	resp, body := get(t, kubectl(t, "prod"), "https://"+r.addr()+"/api/v1/pods")
	s := statusOf(t, resp.Code, body)
	if s.Code != 401 || s.Reason != "Unauthorized" || s.Message != "Login needed at example.com.\nRun: berth login example.com" {
		t.Errorf("status is %+v", s)
	}
	// A client that says how long it waits is answered before.
	r = run(t, Config{Hold: time.Hour, Source: never, Refuse: refuse})
	begin := time.Now()
	resp, body = get(t, kubectl(t, "prod"), "https://"+r.addr()+"/api/v1/pods?timeout=2s")
	statusOf(t, resp.Code, body)
	testwait.Soon(t, "the answer", time.Since(begin), 1900*time.Millisecond)
	// One that hangs up is forgotten.
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+r.addr()+"/api/v1/pods", http.NoBody)
	go func() {
		testwait.Eventually(t, "it waits", func() bool { return r.Status().Waiting == 1 })
		cancel()
	}()
	if resp, err := kubectl(t, "prod").Do(req); err == nil {
		resp.Body.Close()
		t.Error("answered after all")
	}
	testwait.Eventually(t, "it is forgotten", func() bool { return r.Status().Connections == 0 })
	// So is one over HTTP/1 with a body; that of one that stays reaches the cluster.
	bodies := make(chan string, 2)
	c := newCluster(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- string(body)
	})
	login := make(chan struct{})
	posted := run(t, Config{Hold: time.Hour, Refuse: refuse, Source: func(ctx context.Context) (*Upstream, error) {
		select {
		case <-login:
			return c.upstream(), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	conn, err := tls.Dial("tcp", posted.addr(), tlsFor(t, "prod"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "POST /apis/batch/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n0123456789"); err != nil {
		t.Fatal(err)
	}
	testwait.Eventually(t, "the post waits", func() bool { return posted.Status().Waiting == 1 })
	conn.Close()
	forgotten := testwait.Until(func() bool { return posted.Status().Connections == 0 })
	stays := make(chan error, 1)
	go func() {
		tr := &http.Transport{TLSClientConfig: tlsFor(t, "prod")} // without HTTP/2
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Post("https://"+posted.addr()+"/api/v1/pods", "application/json", strings.NewReader("stays"))
		if err == nil {
			err = resp.Body.Close()
		}
		stays <- err
	}()
	testwait.Eventually(t, "the other post waits", func() bool { return posted.Status().Waiting > 0 })
	close(login)
	if err := <-stays; err != nil {
		t.Error(err)
	}
	testwait.Eventually(t, "all posts have ended", func() bool { return posted.Status().Connections == 0 })
	close(bodies)
	var got []string
	for body := range bodies {
		got = append(got, body)
	}
	if !forgotten || !slices.Equal(got, []string{"stays"}) {
		t.Errorf("the first post is forgotten: %v, and the cluster gets %q", forgotten, got)
	}
	// One that is held when the tunnel stops is refused, however late it reads that.
	r = runChanged(t, Config{Hold: time.Hour, Source: never, Refuse: refuse}, func(t *Tunnel) { t.listener.refuseTime = patienceInTests })
	done := make(chan string, 1)
	client := kubectl(t, "prod")
	go func() {
		resp, err := client.Get("https://" + r.addr() + "/api/v1/pods")
		if err != nil {
			done <- err.Error()
			return
		}
		defer resp.Body.Close()
		done <- resp.Status
	}()
	testwait.Eventually(t, "another waits", func() bool { return r.Status().Waiting == 1 })
	go r.stop()
	if got := <-done; !strings.HasPrefix(got, "503") {
		t.Errorf("a client held while the tunnel stops gets %q", got)
	}
}

func TestWarning(t *testing.T) {
	c := newCluster(t, func(http.ResponseWriter, *http.Request) {})
	up := c.upstream()
	up.ValidUntil = time.Now().Add(10 * time.Minute)
	r := run(t, Config{Source: always(up), LoginHint: "berth login example.com"})
	client := kubectl(t, "prod")
	want := `299 - "the Teleport session of tunnel prod ends in 10 min; to go on: berth login example.com"`
	for i, want := range []string{want, "", ""} {
		if resp, _ := get(t, client, "https://"+r.addr()+"/api/v1/pods"); resp.Header.Get("Warning") != want {
			t.Errorf("answer %d warns %q, want %q", i, resp.Header.Get("Warning"), want)
		}
	}
	r.mu.Lock()
	r.warned = time.Now().Add(-warnEvery)
	r.mu.Unlock()
	if resp, _ := get(t, client, "https://"+r.addr()+"/api/v1/pods"); resp.Header.Get("Warning") == "" {
		t.Error("no warning five minutes later")
	}
	for what, tc := range map[string]struct {
		ago, left time.Duration
		warns     bool
	}{
		"an hour before the end":                            {time.Hour, time.Hour, false},
		"at the beginning of a session of ten minutes":      {time.Minute, 9 * time.Minute, false},
		"in the last minute of a session of ten":            {9 * time.Minute, time.Minute, true},
		"in the last quarter of an hour of a day's session": {24 * time.Hour, 14 * time.Minute, true},
	} {
		up := c.upstream()
		up.ValidFrom, up.ValidUntil = time.Now().Add(-tc.ago), time.Now().Add(tc.left)
		r := run(t, Config{Source: always(up)})
		resp, _ := get(t, kubectl(t, "prod"), "https://"+r.addr()+"/api/v1/pods")
		if warned := resp.Header.Get("Warning") != ""; warned != tc.warns {
			t.Errorf("%s: warned %v, want %v", what, warned, tc.warns)
		}
	}
}

func TestForbiddenIsExplained(t *testing.T) {
	const teleport = "please select a user to impersonate, refusing to select a user due to several kubernetes_users set up for this user"
	tests := map[string]struct{ answer, want string }{
		"status":  {`{"kind":"Status","code":403,"message":"` + teleport + `"}`, teleport + ". Set as."},
		"error":   {`{"error":{"message":"` + teleport + `"}}`, teleport + ". Set as."},
		"text":    {"ERROR: " + teleport, "please select a user to impersonate. Set as."},
		"another": {`{"kind":"Status","code":403,"message":"pods is forbidden"}`, "pods is forbidden"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusForbidden)
				_, _ = io.WriteString(w, tt.answer)
			})
			r := run(t, Config{Source: always(c.upstream()), ForbiddenHint: "Set as."})
			resp, body := get(t, kubectl(t, "prod"), "https://"+r.addr()+"/api/v1/pods")
			if s := statusOf(t, resp.Code, body); s.Message != tt.want {
				t.Errorf("message is %q, want %q", s.Message, tt.want)
			}
		})
	}
}

// TestManyBytesLittleMemory reads a long log slowly, then fast.
func TestManyBytesLittleMemory(t *testing.T) {
	size := int64(1 << 30)
	if testing.Short() || testneeds.Race {
		size = 64 << 20
	}
	c := newCluster(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.CopyN(w, zeros{}, size)
	})
	r := run(t, Config{Source: always(c.upstream())})
	client := kubectl(t, "prod")
	client.Timeout = 0
	resp, err := client.Get("https://" + r.addr() + "/logs")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	time.Sleep(300 * time.Millisecond) // the client is slow: nothing must pile up
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || n != size {
		t.Fatalf("read %d bytes, %v; want %d", n, err, size)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if sys := int64(after.HeapSys) - int64(before.HeapSys); sys > 64<<20 {
		t.Errorf("%d bytes were taken from the system", sys)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestSlowServer has an answer come in pieces, with and without a length that
// is known: each is passed on as it comes.
func TestSlowServer(t *testing.T) {
	next := make(chan struct{})
	c := newCluster(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/known" {
			w.Header().Set("Content-Length", "6")
		}
		for _, piece := range []string{"on", "tw", "th"} {
			<-next
			_, _ = io.WriteString(w, piece)
			_ = http.NewResponseController(w).Flush()
		}
	})
	r := run(t, Config{Source: always(c.upstream())})
	for _, path := range []string{"/known", "/unknown"} {
		go func() { next <- struct{}{} }() // the header comes with the first piece
		resp, err := kubectl(t, "prod").Get("https://" + r.addr() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for i, want := range []string{"on", "tw", "th"} {
			if i > 0 {
				next <- struct{}{}
			}
			got := make([]byte, len(want))
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
				t.Fatalf("%s: piece %d is %q, %v", path, i, got, err)
			}
		}
		if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
			t.Errorf("%s: after its end come %q, %v", path, rest, err)
		}
	}
}

// TestBrokenUpstream ends the proxy under open answers: a log breaks and does
// not end, a watch ends, after which clients ask again; the tunnel knows why.
func TestBrokenUpstream(t *testing.T) {
	var ticks sync.Map
	c := newCluster(t, ticking(&ticks))
	r := run(t, Config{Source: always(c.upstream())})
	w := watch(t, kubectl(t, "prod"), r.addr())
	resp, err := kubectl(t, "prod").Get("https://" + r.addr() + "/logs")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	logs := bufio.NewScanner(resp.Body)
	testwait.Eventually(t, "both are open", func() bool { return r.Status().Connections == 2 })
	sendAll(&ticks, "ADDED")
	if !w.Scan() || !logs.Scan() {
		t.Fatal(w.Err(), logs.Err())
	}
	c.CloseClientConnections()
	if logs.Scan() || logs.Err() == nil {
		t.Errorf("after the break the log says %q, %v; want an error", logs.Text(), logs.Err())
	}
	if w.Scan() || w.Err() != nil {
		t.Errorf("after the break the watch says %q, %v; want its end", w.Text(), w.Err())
	}
	testwait.Eventually(t, "the break is noted", func() bool {
		var broken *proxies.ConnError
		return errors.As(r.Status().LastError, &broken) && broken.Side == proxies.SideUpstream
	})
}

func TestCloseConnections(t *testing.T) {
	var ticks sync.Map
	c := newCluster(t, ticking(&ticks))
	r := run(t, Config{Source: always(c.upstream())})
	client := kubectl(t, "prod")
	w := watch(t, client, r.addr())
	testwait.Eventually(t, "watch is open", func() bool { return r.Status().Connections == 1 })
	r.CloseConnections()
	if w.Scan() || w.Err() != nil {
		t.Errorf("the watch says %q, %v; want its end, so that the client asks again", w.Text(), w.Err())
	}
	testwait.Eventually(t, "the connection to the proxy is closed", func() bool { return c.conns.Load() == 0 })
	watch(t, client, r.addr()) // the tunnel goes on
}

// TestIsWatch: berth takes for a watch what an API server does, however the client
// writes it: Python's says True.
func TestIsWatch(t *testing.T) {
	for query, want := range map[string]bool{
		"watch=true": true, "watch=1": true, "watch=True": true, "watch": true, "watch=": true, "watch=yes": true,
		"watch=true&watch=0": true,
		"":                   false, "watch=0": false, "watch=false": false, "watch=False": false, "watch=0&watch=true": false,
	} {
		if got := isWatch(httptest.NewRequest(http.MethodGet, "/api/v1/pods?"+query, nil)); got != want {
			t.Errorf("isWatch of %q is %v, want %v", query, got, want)
		}
	}
}

// TestDrain: a tunnel that ends lets requests end, but for watches, which have
// no end and are asked for again.
func TestDrain(t *testing.T) {
	var ticks sync.Map
	c := newCluster(t, ticking(&ticks))
	l := shared(t)
	a := run(t, Config{Name: "a", Listener: l, Source: always(c.upstream()), Grace: patienceInTests})
	b := run(t, Config{Name: "b", Listener: l, Source: always(c.upstream()), Grace: patienceInTests})
	client := kubectl(t, "a")
	w := watch(t, client, a.addr())
	python := follow(t, client, "https://"+a.addr()+"/api/v1/pods?watch=True")
	logs := follow(t, client, "https://"+a.addr()+"/api/v1/namespaces/default/pods/web-0/log?follow=true")
	testwait.Eventually(t, "all are open", func() bool { return a.Status().Connections == 3 })
	stopped := make(chan struct{})
	go func() { defer close(stopped); a.stop() }()
	<-a.Released()
	for _, w := range []*bufio.Scanner{w, python} {
		if w.Scan() || w.Err() != nil {
			t.Errorf("a draining watch says %q, %v, want its end", w.Text(), w.Err())
		}
	}
	testwait.Eventually(t, "the watches are over at the cluster too", func() bool {
		n := 0
		ticks.Range(func(_, _ any) bool { n++; return true })
		return n == 1
	})
	sendAll(&ticks, "LAST")
	if !logs.Scan() || logs.Text() != "LAST" {
		t.Errorf("draining logs say %q, %v", logs.Text(), logs.Err())
	}
	resp, body := get(t, client, "https://"+l.Status().Addresses[0]+"/api/v1/pods")
	if s := statusOf(t, resp.Code, body); s.Code != 403 || !strings.Contains(s.Message, ServerName("a")) {
		t.Errorf("a stopped tunnel says %+v", s)
	}
	a.end(proxies.ErrStopped)
	<-stopped
	watch(t, kubectl(t, "b"), b.addr())
}

// TestDiscoveryIsRefusedInWords checks the answers that clients read without
// looking for a Status, and that a client is held once, not five times.
func TestDiscoveryIsRefusedInWords(t *testing.T) {
	t.Parallel()
	r := run(t, Config{
		Hold:   800 * time.Millisecond,
		Source: func(ctx context.Context) (*Upstream, error) { <-ctx.Done(); return nil, ctx.Err() },
		Refuse: func(error) Refusal { return Refusal{Code: 401, Message: "Run: berth login"} },
	})
	client := kubectl(t, "prod")
	began := time.Now()
	for _, path := range []string{"/api?timeout=32s", "/apis", "/version", "/openapi/v3"} {
		resp, body := get(t, client, "https://"+r.addr()+path)
		if resp.Code != 403 || body != "Run: berth login\n" || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s says %d %q, %v", path, resp.Code, body, resp.Header)
		}
	}
	testwait.Soon(t, "holding four requests of one client", time.Since(began), 800*time.Millisecond+3*holdAgain+time.Second)
	resp, body := get(t, client, "https://"+r.addr()+"/apis/apps/v1/deployments")
	if s := statusOf(t, resp.Code, body); s.Code != 401 {
		t.Errorf("a list says %+v", s)
	}
}

// TestImpatientRequestTakesItsOwnTime: a request whose client waits for a moment only, as
// some kubectl do for the server's version, leaves the rest of the hold to the next
// request of the connection.
func TestImpatientRequestTakesItsOwnTime(t *testing.T) {
	t.Parallel()
	c := newCluster(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") })
	login := make(chan struct{})
	r := run(t, Config{Hold: time.Hour, Source: func(ctx context.Context) (*Upstream, error) {
		select {
		case <-login:
			return c.upstream(), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	client := kubectl(t, "prod")
	if resp, body := get(t, client, "https://"+r.addr()+"/version?timeout=10ms"); resp.Code != http.StatusForbidden {
		t.Fatalf("without a login it answers %d %q", resp.Code, body)
	}
	time.AfterFunc(2*holdAgain, func() { close(login) })
	if resp, body := get(t, client, "https://"+r.addr()+"/api?timeout=1h"); resp.Code != http.StatusOK || body != "served" {
		t.Errorf("the next request is answered %d %q", resp.Code, body)
	}
}

// TestPanicEndsOneRequest: a request that meets a bug is cut off with an event that says
// so, and the next one is served.
func TestPanicEndsOneRequest(t *testing.T) {
	c := newCluster(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") })
	var asked atomic.Int32
	r := run(t, Config{Source: func(context.Context) (*Upstream, error) {
		if asked.Add(1) == 1 {
			panic("the source")
		}
		return c.upstream(), nil
	}})
	client, url := kubectl(t, "prod"), "https://"+r.addr()+"/api/v1/pods"
	if resp, err := client.Get(url); err == nil {
		_ = resp.Body.Close()
		t.Errorf("the request that met the bug is answered %s", resp.Status)
	}
	r.events.mu.Lock()
	last := r.events.all[len(r.events.all)-1]
	r.events.mu.Unlock()
	if _, ok := errors.AsType[*proxies.PanicError](last.Err); !ok || last.Kind != proxies.EventRefused {
		t.Errorf("the events are %v, the last error %v", r.events.kinds(), last.Err)
	}
	if a, body := get(t, client, url); a.Code != http.StatusOK || body != "served" {
		t.Errorf("the next request is answered %d %q", a.Code, body)
	}
	if s := r.Status(); s.Connections+s.Waiting > 1 {
		t.Errorf("the request is still counted: %+v", s)
	}
}
