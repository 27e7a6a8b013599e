package window

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/state"
)

// logins are the logins that pages take part in.
type logins struct {
	mu sync.Mutex // guards of, and what it points to
	of map[string]*login
}

// login is one page's part in a login.
type login struct {
	session *session
	answers map[int64]func(secret string) // by prompt
}

// loginRequest says where a page wants to log in.
type loginRequest struct {
	Proxy    string `json:"proxy"`
	User     string `json:"user"`
	Auth     string `json:"auth"`
	TTL      string `json:"ttl"` // such as 8h; empty for what the roles allow
	Renew    bool   `json:"renew"`
	Remember bool   `json:"remember"`
}

// serveLogin logs in and answers with a line of JSON for each step. A page that goes
// away leaves the login.
func (s *Server) serveLogin(w http.ResponseWriter, r *http.Request) {
	var req loginRequest
	if !read(w, r, &req) {
		return
	}
	start := client.LoginStart{Proxy: req.Proxy, User: req.User, Auth: req.Auth, Renew: req.Renew, Remember: req.Remember}
	if req.TTL != "" {
		ttl, err := time.ParseDuration(req.TTL)
		if err != nil || ttl < 0 {
			fail(w, &client.Error{Code: client.CodeInvalid, Message: "the session's length is no duration", Hint: "write 8h or 30m"})
			return
		}
		start.TTL = ttl
	}
	defer s.idle.view()()
	l := &login{session: sessionOf(r.Context()), answers: make(map[int64]func(string))}
	id := s.all.add(l)
	defer s.all.remove(id)
	stream := newStream(w, "application/x-ndjson")
	err := s.cfg.Agent.Login(r.Context(), start, func(e client.LoginEvent, answer func(string)) error {
		s.all.note(l, e, answer)
		if e.Kind == state.LoginURL {
			s.browse(r, &e)
		}
		text, err := client.LoginEventJSON(e)
		if err != nil {
			return err
		}
		stream.line(loginLine{Login: id, Event: text})
		return stream.err
	})
	if err != nil && r.Context().Err() == nil {
		s.log.Info("a login in the window failed", "err", err)
		stream.line(loginLine{Login: id, Error: new(failureOf(err))})
	}
}

// loginLine is a step of a login, or why it failed.
type loginLine struct {
	Login string          `json:"login"`
	Event json.RawMessage `json:"event,omitempty"`
	Error *failure        `json:"error,omitempty"`
}

func (s *stream) line(v any) { s.write(string(mustJSON(v)) + "\n") }

// refusal is Browse's error for an address that is no login page.
type refusal interface {
	error
	Refused() bool
}

// browse opens a login's page. One that is refused is no link in the window, either.
func (s *Server) browse(r *http.Request, e *client.LoginEvent) {
	if err := s.cfg.Browse(r.Context(), e.URL, e.Browser, e.Proxy); err != nil {
		s.log.Warn("login page not opened", "profile", e.Proxy, "err", err)
		e.Text = "The login page was not opened: " + err.Error()
		if r, ok := errors.AsType[refusal](err); ok && r.Refused() {
			e.URL = ""
		}
	}
}

// serveAnswer takes what a person typed to the login that asked for it.
func (s *Server) serveAnswer(w http.ResponseWriter, r *http.Request) {
	var body struct {
		ID     int64  `json:"id"`
		Secret string `json:"secret"`
	}
	if !read(w, r, &body) {
		return
	}
	answer := s.all.take(r.PathValue("login"), sessionOf(r.Context()), body.ID)
	if answer == nil {
		fail(w, &client.Error{Code: client.CodeNotFound, Message: "the login does not ask for this any longer"})
		return
	}
	answer(body.Secret)
	reply(w, struct{}{})
}

func (ls *logins) add(l *login) (id string) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.of == nil {
		ls.of = make(map[string]*login)
	}
	id = rand.Text()
	ls.of[id] = l
	return id
}

func (ls *logins) remove(id string) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	delete(ls.of, id)
}

// note remembers who takes the answer to a prompt, until it wants none.
func (ls *logins) note(l *login, e client.LoginEvent, answer func(string)) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	switch e.Kind {
	case state.LoginPassword, state.LoginOTP, state.LoginPIN:
		l.answers[e.ID] = answer
	case state.LoginSettled:
		delete(l.answers, e.ID)
	default: // asks for nothing
	}
}

// take returns what takes the answer to a prompt, once; nil when nothing does.
func (ls *logins) take(id string, s *session, prompt int64) func(string) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.of[id]
	if l == nil || l.session != s {
		return nil
	}
	answer := l.answers[prompt]
	delete(l.answers, prompt)
	return answer
}
