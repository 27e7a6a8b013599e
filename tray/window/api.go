package window

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"mime"
	"net/http"
	"time"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/internal/plain"
	"berth/internal/survive"
	"berth/internal/wake"
)

// policy is what the page may load and do: only what comes from this server.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// handler is everything the server answers.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	files := http.FileServerFS(s.cfg.Files)
	for _, path := range []string{"/{$}", "/app.js", "/app.css"} {
		mux.Handle("GET "+path, files)
	}
	mux.HandleFunc("POST /api/open", s.serveOpen)
	reads := map[string]http.HandlerFunc{
		"/api/key":                    s.serveKey,
		"/api/snapshot/stream":        s.serveStream,
		"/api/info":                   s.asks("GetInfo", nothing),
		"/api/resources":              s.asks("ListResources", fields("kind", "cluster")),
		"/api/requests":               s.asks("Abilities", fields("profile", "resource")),
		"/api/recordings":             s.asks("List", fields("cluster", "since", "until", "user", "kind", "host", "limit")),
		"/api/tunnels/{name}/history": s.asks("TunnelHistory", named),
		"/api/tunnels/{name}/plot":    s.servePlot,
		"/api/tunnels/{name}/urls":    s.serveURLs,
		"/api/plots":                  s.servePlots,
		"/api/clients":                s.asks("TunnelClients", nothing),
		"/api/recordings/{id}":        s.serveRecording,
	}
	for path, get := range s.cfg.Reads {
		reads["/api/"+path] = func(w http.ResponseWriter, r *http.Request) { answer(w)(get(r.Context(), r.URL.Query())) }
	}
	for path, serve := range reads {
		mux.Handle("GET "+path, s.forSession(serve))
	}
	writes := map[string]http.HandlerFunc{
		"/api/call/{call}":          s.serveCall,
		"/api/login":                s.serveLogin,
		"/api/login/{login}/answer": s.serveAnswer,
	}
	for path, put := range s.cfg.Writes {
		writes["/api/"+path] = func(w http.ResponseWriter, r *http.Request) {
			if body, ok := readAll(w, r); ok {
				answer(w)(put(r.Context(), body))
			}
		}
	}
	for path, serve := range writes {
		mux.Handle("POST "+path, s.forSession(withKey(serve)))
	}
	return s.guardedBy(mux)
}

// guardedBy refuses what is not from the page, and says in every answer what
// browsers are to do with it.
func (s *Server) guardedBy(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cache-Control", "no-store")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if why := s.gate.stranger(r); why != "" {
			s.log.Warn("a request was refused", "why", why, "method", r.Method)
			refuse(w, r, &client.Error{Code: client.CodeDenied, Message: "the request is refused: " + why})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		err := survive.Do(s.log, "answer the window", func() error {
			next.ServeHTTP(w, r)
			return nil
		})
		if err != nil {
			fail(w, &client.Error{
				Code: ipc.CodeInternal, Message: "the window met a bug in itself while doing this",
				Hint: `please report it with the lines around "[unexpected]" in the tray's log`,
			})
		}
	})
}

// forSession serves only a request with a session.
func (s *Server) forSession(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := s.gate.session(r)
		if session == nil {
			refuse(w, r, errNoSession)
			return
		}
		if err := s.forbidden(); err != nil {
			refuse(w, r, err)
			return
		}
		s.idle.touch()
		ctx, cancel := context.WithCancel(withSession(r.Context(), session))
		defer cancel()
		defer context.AfterFunc(session.life, cancel)()
		next(w, r.WithContext(ctx))
	})
}

var errNoSession = &client.Error{
	Code: client.CodeLoginNeeded, Message: "this page is not open any longer",
	Hint: `open the window again: from the tray's menu, or with "berth open"`,
}

// withKey serves only requests that carry the session's key and JSON, which no form sends.
func withKey(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		switch {
		case !sessionOf(r.Context()).hasKey(r):
			fail(w, &client.Error{Code: client.CodeDenied, Message: "the request lacks the page's key"})
		case err != nil || kind != "application/json":
			fail(w, &client.Error{Code: client.CodeInvalid, Message: "the request is no JSON"})
		default:
			next(w, r)
		}
	}
}

// opened is the answer to a page that was opened or loaded again.
type opened struct {
	Key     string `json:"key"`
	Version string `json:"version"`
}

func (s *Server) serveOpen(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Token string `json:"token"`
	}
	if !read(w, r, &body) {
		return
	}
	session, cookie := s.gate.open(body.Token, r)
	if session == nil {
		s.log.Warn("an opening link was refused: it is not known, too old or was used")
		fail(w, &client.Error{Code: client.CodeDenied, Message: "this link was used, or is too old", Hint: errNoSession.Hint})
		return
	}
	s.idle.touch()
	if cookie != "" {
		http.SetCookie(w, &http.Cookie{
			Name: s.gate.cookie, Value: cookie, Path: "/api/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
		})
	}
	reply(w, opened{Key: session.key, Version: s.cfg.Version})
}

func (s *Server) serveKey(w http.ResponseWriter, r *http.Request) {
	reply(w, opened{Key: sessionOf(r.Context()).key, Version: s.cfg.Version})
}

// asks makes a call that changes nothing, with the request that make takes from the path.
func (s *Server) asks(call string, request func(r *http.Request) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := json.Marshal(request(r))
		if err != nil {
			fail(w, err)
			return
		}
		s.call(w, r, call, body)
	}
}

func nothing(*http.Request) any { return struct{}{} }

func named(r *http.Request) any { return map[string]string{"name": r.PathValue("name")} }

// fields takes the named parameters that are there, "resource" as a list.
func fields(names ...string) func(r *http.Request) any {
	return func(r *http.Request) any {
		query, request := r.URL.Query(), make(map[string]any)
		for _, name := range names {
			switch {
			case !query.Has(name):
			case name == "resource":
				request["resources"] = query[name]
			default:
				request[name] = query.Get(name)
			}
		}
		return request
	}
}

// serveCall makes a call of the agent's; the client knows those that a page may make.
func (s *Server) serveCall(w http.ResponseWriter, r *http.Request) {
	if body, ok := readAll(w, r); ok {
		s.call(w, r, r.PathValue("call"), body)
	}
}

func (s *Server) call(w http.ResponseWriter, r *http.Request, name string, request []byte) {
	answer, err := s.cfg.Agent.CallJSON(r.Context(), name, request)
	if err != nil {
		fail(w, err)
		return
	}
	replyText(w, http.StatusOK, answer)
}

func (s *Server) serveURLs(w http.ResponseWriter, r *http.Request) {
	t, err := s.cfg.Agent.Tunnel(r.Context(), r.PathValue("name"))
	if err != nil {
		fail(w, err)
		return
	}
	connect, err := s.cfg.URLs(t)
	answer(w)(connect, err)
}

// serveRecording sends the page that plays a recording. What a session printed is
// in it, so it is a page apart: sandboxed, it can reach nothing of this one.
func (s *Server) serveRecording(w http.ResponseWriter, r *http.Request) {
	page := &lateHeader{w: w, policy: s.cfg.PlayerPolicy + "; frame-ancestors 'none'; sandbox allow-scripts"}
	err := s.cfg.Recording(r.Context(), r.URL.Query().Get("cluster"), r.PathValue("id"), page)
	switch {
	case err == nil || r.Context().Err() != nil:
	case !page.sent:
		failPage(w, "This recording cannot be shown", err)
	default: // the page has what came before
		s.log.Info("a recording was not shown to its end", "err", err)
	}
}

// lateHeader is an answer whose header is sent with its first bytes.
type lateHeader struct {
	w      http.ResponseWriter
	policy string
	sent   bool
}

// Write sends bytes of the page.
func (l *lateHeader) Write(b []byte) (int, error) {
	if !l.sent {
		l.sent = true
		l.w.Header().Set("Content-Type", "text/html; charset=utf-8")
		l.w.Header().Set("Content-Security-Policy", l.policy)
	}
	return l.w.Write(b)
}

// serveStream sends each newer snapshot, not faster than people can read.
func (s *Server) serveStream(w http.ResponseWriter, r *http.Request) {
	defer s.idle.view()()
	ctx := r.Context()
	type news struct {
		text []byte
		err  error
	}
	newest := make(chan news)
	go func() {
		defer close(newest)
		for text, err := range s.cfg.Agent.FollowJSON(ctx) {
			select {
			case newest <- news{text, err}:
			case <-ctx.Done():
				return
			}
			if !wake.Sleep(ctx, streamPace) { // meanwhile only the newest is kept
				return
			}
		}
	}()
	stream := newStream(w, "text/event-stream")
	stream.write("retry: 500\n") // milliseconds: whether the server has gone shows soon
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for stream.err == nil {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			if s.closed(stream) {
				return
			}
			stream.write(": still here\n\n")
		case n, ok := <-newest:
			switch {
			case !ok || s.closed(stream):
				return
			case n.err != nil:
				stream.event("away", mustJSON(failureOf(n.err)))
			default:
				stream.event("", n.text)
			}
		}
	}
}

// closed tells a page why the window may no longer be open, and reports whether it did.
func (s *Server) closed(to *stream) bool {
	err := s.forbidden()
	if err != nil {
		to.event("closed", mustJSON(failureOf(err)))
	}
	return err != nil
}

const (
	heartbeat  = 15 * time.Second
	streamPace = 250 * time.Millisecond
)

// failure is what a page gets for a call that failed.
type failure struct {
	Code    client.Code `json:"code"`
	Message string      `json:"message"`
	Hint    string      `json:"hint"`
}

func failureOf(err error) failure {
	f := failure{Code: client.CodeFailed, Message: plain.Text(err.Error())}
	if e, ok := errors.AsType[*client.Error](err); ok {
		f.Code, f.Hint = e.Code, plain.Text(e.Hint)
	}
	if e, ok := errors.AsType[interface {
		error
		NextStep() string
	}](err); ok {
		f.Hint = plain.Text(e.NextStep())
	}
	return f
}

var statuses = map[client.Code]int{
	client.CodeNotRunning:  http.StatusServiceUnavailable,
	client.CodeLoginNeeded: http.StatusUnauthorized,
	client.CodeNotFound:    http.StatusNotFound,
	client.CodeExists:      http.StatusConflict,
	client.CodeInvalid:     http.StatusBadRequest,
	client.CodeDenied:      http.StatusForbidden,
	client.CodeConfirm:     http.StatusPreconditionRequired,
	client.CodeTimeout:     http.StatusGatewayTimeout,
	client.CodeUnsupported: http.StatusNotImplemented,
	client.CodeFailed:      http.StatusUnprocessableEntity,
}

func fail(w http.ResponseWriter, err error) {
	f := failureOf(err)
	replyText(w, statusOf(f), mustJSON(f))
}

func statusOf(f failure) int {
	status, ok := statuses[f.Code]
	if !ok {
		return http.StatusInternalServerError
	}
	return status
}

// refuse answers a script of the page with JSON, and a tab with a page: it may show an
// old link.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.Header.Get("Sec-Fetch-Mode") == "navigate" {
		failPage(w, "berth does not show this", err)
		return
	}
	fail(w, err)
}

// failPage says in a tab of its own, which no script of the page fills, what has failed.
func failPage(w http.ResponseWriter, title string, err error) {
	f := failureOf(err)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(statusOf(f))
	title = html.EscapeString(title)
	// A page that has gone needs no answer.
	_, _ = fmt.Fprintf(w, failedPage, title, title, html.EscapeString(f.Message), html.EscapeString(f.Hint))
}

const failedPage = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>%s</title>
<h1>%s</h1>
<p>%s</p>
<p>%s</p>
</html>
`

// answer sends what a func has returned.
func answer(w http.ResponseWriter) func(v any, err error) {
	return func(v any, err error) {
		if err != nil {
			fail(w, err)
			return
		}
		reply(w, v)
	}
}

func reply(w http.ResponseWriter, v any) { replyText(w, http.StatusOK, mustJSON(v)) }

func replyText(w http.ResponseWriter, status int, text []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // a page that has gone needs no answer
}

// mustJSON writes one of this package's own values, which always can be.
func mustJSON(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// readAll takes a request's body, or answers that it is too long.
func readAll(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		fail(w, &client.Error{Code: client.CodeInvalid, Message: err.Error()})
	}
	return body, err == nil
}

// read takes a request's JSON, or answers that it is none.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		// The decoder's words may have a secret in them.
		fail(w, &client.Error{Code: client.CodeInvalid, Message: "the request is not understood"})
		return false
	}
	return true
}
