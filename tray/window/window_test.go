package window

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/browser"
	"berth/internal/testwait"
)

func TestMain(m *testing.M) { testwait.NoLeaks(m) }

// fakeAgent answers calls and follows a channel of snapshots.
type fakeAgent struct {
	mu    sync.Mutex
	calls []string
	news  chan error // nil: a snapshot
	ask   func(show func(e client.LoginEvent, answer func(string)) error) error
}

func (a *fakeAgent) CallJSON(_ context.Context, name string, request []byte) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, name+" "+string(request))
	if name == "StopTunnel" {
		return nil, &client.Error{Code: client.CodeNotFound, Message: "there is no tunnel", Hint: "look"}
	}
	return []byte(`{"ok":true}`), nil
}

func (a *fakeAgent) FollowJSON(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			select {
			case <-ctx.Done():
				return
			case err := <-a.news:
				if !yield([]byte(`{"tunnels":[]}`), err) {
					return
				}
			}
		}
	}
}

func (a *fakeAgent) Tunnel(_ context.Context, name string) (state.Tunnel, error) {
	return state.Tunnel{TunnelSpec: state.TunnelSpec{Name: name}}, nil
}

func (a *fakeAgent) TunnelPlot(_ context.Context, name string) ([]state.PlotPoint, error) {
	if name == "none" {
		return nil, &client.Error{Code: client.CodeNotFound, Message: "there is no tunnel"}
	}
	return []state.PlotPoint{{
		At: time.Unix(60, 0), Span: state.Duration(30 * time.Second), Connections: 2, BytesIn: 60, Held: state.Duration(time.Second),
	}}, nil
}

func (a *fakeAgent) Login(
	_ context.Context, _ client.LoginStart, show func(e client.LoginEvent, answer func(string)) error,
) error {
	return a.ask(show)
}

// page is a served window, and what a browser knows of it.
type page struct {
	t      *testing.T
	server *Server
	agent  *fakeAgent
	log    *strings.Builder
	cookie string
	key    string
}

func config(a *fakeAgent, log io.Writer) Config {
	return Config{
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), Agent: a, Version: "1.2.3",
		Files:   fstest.MapFS{"index.html": {Data: []byte("<title>berth</title>")}, "app.js": {Data: []byte("1")}, "app.css": {Data: []byte("a{}")}},
		Locks:   func(context.Context, func()) {},
		Browse:  func(context.Context, string, []string, string) error { return nil },
		Allowed: func() error { return nil },
		URLs: func(t state.Tunnel) (Connect, error) {
			return Connect{URLs: []Form{{Name: "url", Text: "postgres://" + t.Name}}, Client: "psql"}, nil
		},
		PlayerPolicy: "default-src 'none'",
		Recording: func(_ context.Context, cluster, id string, w io.Writer) error {
			if id == "none" {
				return &client.Error{Code: client.CodeNotFound, Message: "there is no recording"}
			}
			_, err := io.WriteString(w, cluster+"/"+id)
			return err
		},
		Reads: map[string]func(context.Context, url.Values) (any, error){
			"log": func(_ context.Context, q url.Values) (any, error) { return q.Get("lines"), nil },
		},
		Writes: map[string]func(context.Context, []byte) (any, error){
			"settings": func(_ context.Context, body []byte) (any, error) { return nil, errors.New("\x1b[31m" + string(body)) },
		},
	}
}

// open serves a window and opens its link.
func open(t *testing.T) *page {
	t.Helper()
	p := &page{t: t, agent: &fakeAgent{news: make(chan error)}, log: &strings.Builder{}}
	p.server = newServer(config(p.agent, p.log), localListener(t))
	t.Cleanup(p.server.idle.stop)
	p.enter(p.token())
	if p.key == "" || p.cookie == "" {
		t.Fatal("the link opened nothing")
	}
	return p
}

// localListener is only asked for its address.
func localListener(t *testing.T) net.Listener {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func (p *page) token() string {
	_, token, _ := strings.Cut(p.server.Link(""), "#")
	return token
}

// enter presents a token, and takes what it brings.
func (p *page) enter(token string) *response {
	resp := p.do(http.MethodPost, "/api/open", `{"token":"`+token+`"}`, nil)
	if resp.StatusCode != http.StatusOK {
		return resp
	}
	for _, c := range resp.Cookies() {
		p.cookie = c.Name + "=" + c.Value
		if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/api/" {
			p.t.Errorf("the cookie is %v", c)
		}
	}
	var o opened
	if err := json.NewDecoder(resp.Body).Decode(&o); err != nil || o.Version != "1.2.3" {
		p.t.Errorf("opened %+v, %v", o, err)
	}
	p.key = o.Key
	return resp
}

// do sends a request as the page's own script does; change makes it another's.
func (p *page) do(method, path, body string, change func(*http.Request)) *response {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, "http://"+p.server.host+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if method == http.MethodPost {
		r.Header.Set("Origin", "http://"+p.server.host)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set(keyHeader, p.key)
	}
	if p.cookie != "" {
		r.Header.Set("Cookie", p.cookie)
	}
	if change != nil {
		change(r)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer cancel()
	w, r := httptest.NewRecorder(), r.WithContext(ctx)
	p.server.handler().ServeHTTP(w, r)
	result := w.Result()
	_ = result.Body.Close() // the recorder has it
	return &response{result.StatusCode, result.Status, result.Header, w.Body, result.Cookies}
}

// response is what a request has brought; its body is read whole.
type response struct {
	StatusCode int
	Status     string
	Header     http.Header
	Body       io.Reader
	Cookies    func() []*http.Cookie
}

func TestPage(t *testing.T) {
	p := open(t)
	for path, want := range map[string]string{
		"/": "text/html", "/app.js": "text/javascript", "/app.css": "text/css", "/api/info": "application/json",
		"/api/tunnels/pg/urls": "application/json",
	} {
		resp := p.do(http.MethodGet, path, "", nil)
		if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), want) {
			t.Errorf("%s: %s, %s", path, resp.Status, resp.Header.Get("Content-Type"))
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
			"Cache-Control": "no-store", "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		if resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s may be read by other pages", path)
		}
	}
	again := p.do(http.MethodGet, "/api/key", "", nil)
	var o opened
	if err := json.NewDecoder(again.Body).Decode(&o); err != nil || o.Key != p.key {
		t.Errorf("a page that is loaded again gets %+v, %v", o, err)
	}
	resp := p.do(http.MethodPost, "/api/call/StopTunnel", `{"name":"pg"}`, nil)
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusNotFound || string(body) != `{"code":"not_found","message":"there is no tunnel","hint":"look"}` {
		t.Errorf("a call that fails: %s, %s", resp.Status, body)
	}
	resp = p.do(http.MethodPost, "/api/settings", "x", nil)
	body, _ = io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusUnprocessableEntity || string(body) != `{"code":"failed","message":"x","hint":""}` {
		t.Errorf("what fails in a page of the front end: %s, %s", resp.Status, body)
	}
	for path, want := range map[string]string{
		"/api/log?lines=7": `"7"`, "/api/recordings/r%2F1?cluster=c": "c/r/1",
		"/api/tunnels/pg/plot":             `{"at":[60],"connections":[2],"bytesIn":[2],"bytesOut":[0],"heldMs":[1000],"dialMs":[0]}`,
		"/api/plots?tunnel=pg&tunnel=none": `{"pg":[2]}`,
		"/api/recordings/none":             `<p>there is no recording</p>`,
	} {
		resp := p.do(http.MethodGet, path, "", nil)
		body, _ := io.ReadAll(resp.Body)
		if page := want[0] == '<'; !page && string(body) != want || page && !strings.Contains(string(body), want) {
			t.Errorf("%s: %s", path, body)
		}
		csp := resp.Header.Get("Content-Security-Policy")
		if sandboxed := strings.HasSuffix(csp, "frame-ancestors 'none'; sandbox allow-scripts"); sandboxed != strings.HasSuffix(want, "r/1") {
			t.Errorf("%s: the policy is %q", path, csp)
		}
	}
	p.do(http.MethodGet, "/api/tunnels/a%2F%22b/history", "", nil)
	p.do(http.MethodGet, "/api/resources?kind=db&cluster=c&more=x", "", nil)
	want := []string{`GetInfo {}`, `StopTunnel {"name":"pg"}`, `TunnelHistory {"name":"a/\"b"}`, `ListResources {"cluster":"c","kind":"db"}`}
	if got := strings.Join(p.agent.calls, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("the agent was asked\n%s", got)
	}
}

// TestAttacks sends what other pages, names that lead here and programs without
// the cookie or the key could send.
func TestAttacks(t *testing.T) {
	for name, change := range map[string]func(*http.Request){
		"rebinding":           func(r *http.Request) { r.Host = "evil.example:80" },
		"rebinding_same_port": func(r *http.Request) { r.Host = strings.Replace(r.Host, "127.0.0.1", "evil.example", 1) },
		"localhost":           func(r *http.Request) { r.Host = strings.Replace(r.Host, "127.0.0.1", "localhost", 1) },
		"cross_site":          func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"another_port":        func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"foreign_origin":      func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") },
		"opaque_origin":       func(r *http.Request) { r.Header.Set("Origin", "null") },
		"origin_of_a_port": func(r *http.Request) {
			r.Header.Del("Sec-Fetch-Site")
			r.Header.Set("Origin", "http://127.0.0.1:1")
		},
		"two_origins": func(r *http.Request) { r.Header.Add("Origin", "http://evil.example") },
		"a_visit": func(r *http.Request) {
			r.Header.Del("Origin")
			r.Header.Set("Sec-Fetch-Site", "none")
			r.Header.Set("Sec-Fetch-Mode", "navigate")
		},
		"no_cookie":    func(r *http.Request) { r.Header.Del("Cookie") },
		"wrong_cookie": func(r *http.Request) { r.Header.Set("Cookie", "berth=AAAA") },
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t)
			for _, ask := range [][2]string{
				{http.MethodGet, "/api/key"}, {http.MethodGet, "/api/snapshot/stream"}, {http.MethodGet, "/api/info"},
				{http.MethodGet, "/api/resources"}, {http.MethodGet, "/api/log"}, {http.MethodGet, "/api/recordings/r"}, {http.MethodPost, "/api/settings"}, {http.MethodGet, "/api/tunnels/pg/history"}, {http.MethodGet, "/api/tunnels/pg/urls"},
				{http.MethodGet, "/api/tunnels/pg/plot"}, {http.MethodGet, "/api/plots?tunnel=pg"}, {http.MethodGet, "/api/clients"}, {http.MethodPost, "/api/call/StopTunnel"}, {http.MethodPost, "/api/login"}, {http.MethodPost, "/api/login/x/answer"},
			} {
				resp := p.do(ask[0], ask[1], "{}", change)
				body, _ := io.ReadAll(resp.Body)
				if resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusUnauthorized {
					t.Errorf("%s: %s %s", ask, resp.Status, body)
				}
				if strings.Contains(string(body), p.key) {
					t.Errorf("%s: the key was given away", ask)
				}
			}
			if len(p.agent.calls) > 0 {
				t.Errorf("the agent was asked %q", p.agent.calls)
			}
		})
	}
}

// TestOldLink: a tab that is refused shows a page, not JSON.
func TestOldLink(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*http.Request)
		want   string
	}{
		"no_session": {func(r *http.Request) { r.Header.Del("Cookie") }, "<p>this page is not open any longer</p>"},
		"from_afar":  {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, "<p>the request is refused: "},
	} {
		resp := open(t).do(http.MethodGet, "/api/recordings/r", "", func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Mode", "navigate")
			tc.change(r)
		})
		body, _ := io.ReadAll(resp.Body)
		if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/html") || !strings.Contains(string(body), tc.want) {
			t.Errorf("%s: %s, %s: %s", name, resp.Status, kind, body)
		}
	}
}

// TestWrites sends what a form, or a script without the key, could send.
func TestWrites(t *testing.T) {
	for name, change := range map[string]func(*http.Request){
		"no_key":    func(r *http.Request) { r.Header.Del(keyHeader) },
		"empty_key": func(r *http.Request) { r.Header.Set(keyHeader, "") },
		"wrong_key": func(r *http.Request) { r.Header.Set(keyHeader, "AAAA") },
		"a_form":    func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") },
		"no_origin": func(r *http.Request) { r.Header.Del("Origin"); r.Header.Del("Sec-Fetch-Site") },
		"as_get":    func(r *http.Request) { r.Method = http.MethodGet },
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t)
			for _, path := range []string{"/api/call/StopTunnel", "/api/settings", "/api/login", "/api/login/x/answer"} {
				if resp := p.do(http.MethodPost, path, "{}", change); resp.StatusCode < 400 {
					t.Errorf("%s: %s", path, resp.Status)
				}
			}
			if len(p.agent.calls) > 0 {
				t.Errorf("the agent was asked %q", p.agent.calls)
			}
		})
	}
}

func TestTokens(t *testing.T) {
	p := open(t)
	t.Run("stolen_after_use", func(t *testing.T) {
		token := p.token()
		p.cookie = ""
		p.enter(token)
		followed := make(chan struct{}) // what the page follows ends, too
		go func() {
			defer close(followed)
			p.do(http.MethodGet, "/api/snapshot/stream", "", nil)
		}()
		p.agent.news <- nil
		thief := &page{t: t, server: p.server, agent: p.agent}
		if resp := thief.enter(token); resp.StatusCode != http.StatusForbidden || thief.key != "" {
			t.Errorf("a used link opens: %s", resp.Status)
		}
		if resp := p.do(http.MethodGet, "/api/key", "", nil); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("the session of a link that was used twice goes on: %s", resp.Status)
		}
		<-followed
	})
	t.Run("another_page_of_the_browser", func(t *testing.T) {
		p.cookie = ""
		p.enter(p.token())
		key, cookie := p.key, p.cookie
		if resp := p.enter(p.token()); resp.StatusCode != http.StatusOK || p.key != key || p.cookie != cookie {
			t.Errorf("another link: %s, the key is another: %v", resp.Status, p.key != key)
		}
	})
	t.Run("again_by_its_page", func(t *testing.T) {
		token := p.token()
		p.cookie = ""
		p.enter(token)
		key := p.key
		if resp := p.enter(token); resp.StatusCode != http.StatusOK || p.key != key || len(resp.Cookies()) > 0 {
			t.Errorf("the page's own link, again: %s", resp.Status)
		}
	})
	t.Run("unknown", func(t *testing.T) {
		for _, token := range []string{"", "AAAA", p.key, p.cookie} {
			if resp := p.enter(token); resp.StatusCode != http.StatusForbidden {
				t.Errorf("%q opens: %s", token, resp.Status)
			}
		}
	})
	t.Run("from_another_page", func(t *testing.T) {
		token := p.token()
		resp := p.do(http.MethodPost, "/api/open", `{"token":"`+token+`"}`, func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") })
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("another page opens: %s", resp.Status)
		}
	})
	t.Run("sessions_do_not_mix", func(t *testing.T) {
		first := open(t)
		second := &page{t: t, server: first.server, agent: first.agent}
		second.enter(second.token())
		resp := first.do(http.MethodPost, "/api/call/ReloadConfig", "{}", func(r *http.Request) { r.Header.Set(keyHeader, second.key) })
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("another session's key is good: %s", resp.Status)
		}
	})
	for _, secret := range []string{p.key, p.cookie} {
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("a secret is in the log:\n%s", p.log)
		}
	}
}

func TestOldToken(t *testing.T) {
	ln := localListener(t)
	synctest.Test(t, func(t *testing.T) {
		p := &page{t: t, agent: &fakeAgent{}, log: &strings.Builder{}}
		p.server = newServer(config(p.agent, p.log), ln)
		defer p.server.idle.stop()
		token := p.token()
		time.Sleep(tokenLasts + time.Second)
		if resp := p.enter(token); resp.StatusCode != http.StatusForbidden {
			t.Errorf("a link opens after %s: %s", tokenLasts, resp.Status)
		}
	})
}

// TestEnds checks when the window ends by itself: not while a page looks.
func TestEnds(t *testing.T) {
	ln := localListener(t)
	synctest.Test(t, func(t *testing.T) {
		s := newServer(config(&fakeAgent{}, io.Discard), ln)
		time.Sleep(idleEnd - time.Second)
		s.idle.touch()
		time.Sleep(idleEnd - time.Second)
		first, second := s.idle.view(), s.idle.view()
		time.Sleep(24 * time.Hour)
		first()
		s.idle.touch()
		time.Sleep(24 * time.Hour)
		if s.ended() {
			t.Fatal("the window ended while a page looked")
		}
		second()
		time.Sleep(idleEnd - time.Second)
		if s.ended() {
			t.Fatal("the window ended early")
		}
		s.Link("")
		time.Sleep(idleEnd - time.Second)
		if s.ended() {
			t.Fatal("the window ended before its link was used")
		}
		time.Sleep(2 * time.Second)
		if !s.ended() {
			t.Error("the window stays without a page")
		}
	})
}

// TestRun serves over a real socket: another user's program gets nothing, a page gets
// the stream, the lock of the screen ends it all.
func TestRun(t *testing.T) {
	a := &fakeAgent{news: make(chan error)}
	cfg := config(a, io.Discard)
	var foreign atomic.Bool
	cfg.Guard = func(net.Conn) error {
		if foreign.Load() {
			return errors.New("the client belongs to another user")
		}
		return nil
	}
	lock := make(chan struct{})
	cfg.Locks = func(ctx context.Context, locked func()) {
		select {
		case <-lock:
			locked()
		case <-ctx.Done():
		}
	}
	opener := NewOpener(t.Context(), cfg)
	link, err := opener.Link("tunnels/pg%20x")
	if err != nil {
		t.Fatal(err)
	}
	address, token, _ := strings.Cut(link, "#")
	token, path, _ := strings.Cut(token, "&")
	if path != "tunnels/pg%20x" || Address(link) != address {
		t.Errorf("the link's path is %q, its address %q", path, address)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	get := func(method, path, body, cookie string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), method, address+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", strings.TrimSuffix(address, "/"))
		r.Header.Set("Cookie", cookie)
		return transport.RoundTrip(r)
	}
	foreign.Store(true)
	if resp, err := get(http.MethodGet, "", "", ""); err == nil {
		_ = resp.Body.Close()
		t.Error("another user's program was served")
	}
	foreign.Store(false)
	resp, err := get(http.MethodPost, "api/open", `{"token":"`+token+`"}`, "")
	if err != nil || len(resp.Cookies()) != 1 {
		t.Fatalf("open: %v, %v", resp, err)
	}
	_ = resp.Body.Close()
	resp, err = get(http.MethodGet, "api/snapshot/stream", "", resp.Cookies()[0].Name+"="+resp.Cookies()[0].Value)
	if err != nil || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("stream: %v, %v", resp, err)
	}
	defer resp.Body.Close() //nolint:errcheck // it is read to its end
	lines := bufio.NewScanner(resp.Body)
	for _, step := range []struct {
		news error
		want string
	}{
		{nil, "retry: 500\n" + `data: {"tunnels":[]}`},
		{client.ErrNotRunning, "event: away\n" + `data: {"code":"not_running","message":"the agent is not running","hint":"start it with \"berth agent install\""}`},
		{nil, `data: {"tunnels":[]}`},
	} {
		a.news <- step.news
		var got []string
		for lines.Scan() && lines.Text() != "" {
			got = append(got, lines.Text())
		}
		if strings.Join(got, "\n") != step.want {
			t.Errorf("the stream has %q", got)
		}
	}
	close(lock)
	for lines.Scan() {
	}
	t.Logf("the stream ended: %v", lines.Err()) // as the server ends it, or cut
	opener.Wait()
	if resp, err := get(http.MethodGet, "", "", ""); err == nil {
		_ = resp.Body.Close()
		t.Error("the window is served while the screen is locked")
	}
}

// TestForbidden forbids an open window: its page hears why, and nothing is served any
// longer.
func TestForbidden(t *testing.T) {
	p := open(t)
	var forbidden atomic.Bool
	p.server.cfg.Allowed = func() error {
		if forbidden.Load() {
			return &client.Error{Code: client.CodeDenied, Message: "the window is switched off here", Hint: "ask"}
		}
		return nil
	}
	stream := make(chan string, 1)
	go func() {
		body, _ := io.ReadAll(p.do(http.MethodGet, "/api/snapshot/stream", "", nil).Body)
		stream <- string(body)
	}()
	p.agent.news <- nil // the stream is open
	forbidden.Store(true)
	var body string
	select {
	case p.agent.news <- nil:
		body = <-stream
	case body = <-stream: // it ended with the first
	}
	_, got, _ := strings.Cut(body, "event: ")
	if want := "closed\n" + `data: {"code":"denied","message":"the window is switched off here","hint":"ask"}` + "\n\n"; got != want {
		t.Errorf("the stream ends with %q", got)
	}
	if !p.server.ended() {
		t.Error("the server goes on")
	}

	p = open(t)
	p.server.cfg.Allowed = func() error { return errors.New("no") }
	if resp := p.do(http.MethodPost, "/api/call/StopTunnel", "{}", nil); resp.StatusCode == http.StatusOK || len(p.agent.calls) > 0 {
		t.Errorf("a forbidden window acts: %s, %q", resp.Status, p.agent.calls)
	}
	if !p.server.ended() {
		t.Error("the server goes on after a request")
	}
}

func TestLogin(t *testing.T) {
	p := open(t)
	const secret = "hunter2"
	got := make(chan string, 2)
	var id atomic.Value
	p.agent.ask = func(show func(e client.LoginEvent, answer func(string)) error) error {
		answer := func(s string) { got <- s }
		if err := show(client.LoginEvent{ID: 7, Kind: state.LoginPassword, Text: "Password:"}, answer); err != nil {
			return err
		}
		p.server.all.mu.Lock()
		for name := range p.server.all.of {
			id.Store(name)
		}
		p.server.all.mu.Unlock()
		path := "/api/login/" + id.Load().(string) + "/answer"
		stranger := &page{t: t, server: p.server, agent: p.agent}
		stranger.enter(stranger.token())
		if resp := stranger.do(http.MethodPost, path, `{"id":7,"secret":"x"}`, nil); resp.StatusCode != http.StatusNotFound {
			t.Errorf("another page answers: %s", resp.Status)
		}
		if resp := p.do(http.MethodPost, path, `{"id":7,"secret":"`+secret+`"}`, nil); resp.StatusCode != http.StatusOK {
			t.Errorf("the answer: %s", resp.Status)
		}
		if resp := p.do(http.MethodPost, path, `{"id":7,"secret":"again"}`, nil); resp.StatusCode != http.StatusNotFound {
			t.Errorf("a second answer: %s", resp.Status)
		}
		return &client.Error{Code: client.CodeDenied, Message: "wrong", Hint: "again"}
	}
	resp := p.do(http.MethodPost, "/api/login", `{"proxy":"p:443","ttl":"8h"}`, nil)
	body, _ := io.ReadAll(resp.Body)
	var lines []loginLine
	for line := range strings.Lines(string(body)) {
		var l loginLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	if len(lines) != 2 || lines[0].Login != id.Load() || !strings.Contains(string(lines[0].Event), "Password:") ||
		lines[1].Error == nil || lines[1].Error.Message != "wrong" {
		t.Errorf("the login's lines are\n%s", body)
	}
	if s := <-got; s != secret {
		t.Errorf("the login got %q", s)
	}
	if strings.Contains(p.log.String(), secret) {
		t.Errorf("the answer is in the log:\n%s", p.log)
	}
}

// TestLoginPage: a page that no browser could be started for is a link in the window;
// one that is refused is none.
func TestLoginPage(t *testing.T) {
	const ours, theirs = "http://127.0.0.1:1234/callback", "https://evil.example.com/callback"
	p := open(t)
	p.server.cfg.Browse = func(_ context.Context, url string, _ []string, proxy string) error {
		return cmp.Or(browser.Check(url, proxy), errors.New("no browser here"))
	}
	p.agent.ask = func(show func(e client.LoginEvent, answer func(string)) error) error {
		for _, url := range []string{ours, theirs} {
			if err := show(client.LoginEvent{Kind: state.LoginURL, URL: url, Proxy: "p:443"}, nil); err != nil {
				return err
			}
		}
		return nil
	}
	resp := p.do(http.MethodPost, "/api/login", `{"proxy":"p:443"}`, nil)
	body, _ := io.ReadAll(resp.Body)
	if !strings.Contains(string(body), ours) || !strings.Contains(string(body), "no browser here") {
		t.Errorf("a page that is not refused is no link:\n%s", body)
	}
	if strings.Contains(string(body), theirs) || !strings.Contains(string(body), "it is no page of the proxy") {
		t.Errorf("a refused page is a link:\n%s", body)
	}
}

// TestBugInAnAnswer: a request that meets a bug is answered with an error, and the next
// one as ever.
func TestBugInAnAnswer(t *testing.T) {
	p := open(t)
	p.server.cfg.Reads["log"] = func(_ context.Context, q url.Values) (any, error) {
		if q.Get("lines") == "0" {
			panic("a bug")
		}
		return q.Get("lines"), nil
	}
	r := p.do(http.MethodGet, "/api/log?lines=0", "", nil)
	body, _ := io.ReadAll(r.Body)
	if r.StatusCode != http.StatusInternalServerError || !strings.Contains(string(body), "please report it") {
		t.Errorf("answered %d %s", r.StatusCode, body)
	}
	if !strings.Contains(p.log.String(), "[unexpected] panic") {
		t.Errorf("the log says %s", p.log)
	}
	if r := p.do(http.MethodGet, "/api/log?lines=7", "", nil); r.StatusCode != http.StatusOK {
		t.Errorf("the next request is answered %s", r.Status)
	}
}
