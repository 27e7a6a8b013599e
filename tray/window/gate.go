package window

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// tokenLasts is how long an opening link is good.
	tokenLasts = 2 * time.Minute
	// maxTokens and maxSessions bound what is remembered: the oldest go.
	maxTokens   = 32
	maxSessions = 16
	// keyHeader carries a session's key.
	keyHeader = "Berth-Key"
)

// gate knows who may ask. The tokens, cookies and keys it gives are random, and it
// finds them by their hashes, so that the time a look takes says nothing of them.
type gate struct {
	host   string
	cookie string // its name: cookies know no ports

	mu       sync.Mutex // guards everything below
	tokens   []*token
	sessions []*session
}

// digest is the hash of a secret.
type digest [sha256.Size]byte

// token is that of one opening link.
type token struct {
	hash  digest
	until time.Time
	used  *session // nil: not yet
}

// session is a browser's right to ask, for all its pages. What it asked for ends
// with it.
type session struct {
	cookie digest
	key    string
	life   context.Context
	end    context.CancelFunc
}

func newSession(cookie string) *session {
	s := &session{cookie: sha256.Sum256([]byte(cookie)), key: rand.Text()}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

func newGate(host string) *gate {
	name := "berth"
	if _, port, err := net.SplitHostPort(host); err == nil {
		name += "-" + port
	}
	return &gate{host: host, cookie: name}
}

func (g *gate) newToken() string {
	text := rand.Text() + rand.Text()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.tokens) == maxTokens {
		g.tokens = g.tokens[1:]
	}
	g.tokens = append(g.tokens, &token{hash: sha256.Sum256([]byte(text)), until: time.Now().Add(tokenLasts)})
	return text
}

// open exchanges a token for a session and its cookie; a browser that has a session
// keeps it, so that its other pages go on. A token that comes a second time, from
// another browser, ends the session: one of the two is not the user's.
func (g *gate) open(text string, r *http.Request) (s *session, cookie string) {
	hash := digest(sha256.Sum256([]byte(text)))
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range g.tokens {
		switch {
		case t.hash != hash:
			continue
		case t.used != nil && t.used == g.sessionLocked(r):
			return t.used, "" // the same page, opened from the browser's history
		case t.used != nil:
			t.used.end()
			return nil, ""
		case time.Now().After(t.until):
			return nil, ""
		}
		if t.used = g.sessionLocked(r); t.used != nil {
			return t.used, ""
		}
		cookie = rand.Text() + rand.Text()
		t.used = newSession(cookie)
		if len(g.sessions) == maxSessions {
			g.sessions[0].end()
			g.sessions = g.sessions[1:]
		}
		g.sessions = append(g.sessions, t.used)
		return t.used, cookie
	}
	return nil, ""
}

// session is that of a request's cookie; nil means none.
func (g *gate) session(r *http.Request) *session {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sessionLocked(r)
}

func (g *gate) sessionLocked(r *http.Request) *session {
	for _, c := range r.CookiesNamed(g.cookie) {
		hash := digest(sha256.Sum256([]byte(c.Value)))
		for _, s := range g.sessions {
			if s.cookie == hash && s.life.Err() == nil {
				return s
			}
		}
	}
	return nil
}

// stranger says why a request is not from the page itself, going by what its
// sender cannot choose; empty means that it may be.
func (g *gate) stranger(r *http.Request) string {
	origin, site := r.Header.Values("Origin"), r.Header.Values("Sec-Fetch-Site")
	switch {
	case r.Host != g.host:
		return "it is for another host"
	case len(origin) > 1 || len(site) > 1:
		return "it has two origins"
	case len(origin) == 1 && origin[0] != "http://"+g.host:
		return "it is from another page"
	case len(site) == 1 && site[0] != "same-origin" && !isVisit(r, site[0]):
		return "it is from another page"
	case len(origin) == 0 && len(site) == 0 && r.Method != http.MethodGet:
		return "it does not say which page it is from"
	}
	return ""
}

// isVisit reports whether a request is the user's own look at the page: its address
// was typed or handed to the browser. A page that other pages lead to is refused.
func isVisit(r *http.Request, site string) bool {
	return site == "none" && r.Method == http.MethodGet && r.URL.Path == "/"
}

// hasKey reports whether a request has the session's key.
func (s *session) hasKey(r *http.Request) bool {
	return subtle.ConstantTimeCompare([]byte(r.Header.Get(keyHeader)), []byte(s.key)) == 1
}
