package simcluster

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// ssoSessions are the single sign-ons under way.
type ssoSessions struct {
	mu   sync.Mutex
	byID map[string]LoginRequest
}

func (s *ssoSessions) put(req LoginRequest) string {
	id := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = make(map[string]LoginRequest)
	}
	s.byID[id] = req
	return id
}

func (s *ssoSessions) get(id string) (LoginRequest, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	req, ok := s.byID[id]
	return req, ok
}

// take returns a session and ends it: an answer is given once.
func (s *ssoSessions) take(id string) (LoginRequest, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	req, ok := s.byID[id]
	delete(s.byID, id)
	return req, ok
}

// handleSSOStart begins a single sign-on: it answers with the URL of the
// identity provider, which the client is to open in a browser.
func (c *Cluster) handleSSOStart(w http.ResponseWriter, r *http.Request) {
	var req LoginRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&req); err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	kind := r.PathValue("kind")
	if !slices.ContainsFunc(c.cfg.Connectors, func(cn Connector) bool {
		return cn.Name == req.ConnectorID && string(cn.Type) == kind
	}) {
		writeError(w, http.StatusNotFound, fmt.Sprintf("%s connector %q is not found", kind, req.ConnectorID))
		return
	}
	if err := checkCallback(req.RedirectURL); err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	to := "https://" + c.ProxyAddr() + "/sim/idp?id=" + url.QueryEscape(c.sso.put(req))
	writeJSON(w, http.StatusOK, map[string]string{"redirect_url": to})
}

// checkCallback wants a loopback address to send certs to, as Teleport does.
func checkCallback(raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return fmt.Errorf("parse callback URL: %w", err)
	}
	if host := u.Hostname(); host != "127.0.0.1" && host != "localhost" && host != "::1" {
		return errors.New("callback URL is not on a loopback address")
	}
	if u.Query().Get("secret_key") == "" {
		return errors.New("callback URL has no secret_key")
	}
	return nil
}

func (c *Cluster) handleIDPPage(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	if _, ok := c.sso.get(id); !ok {
		http.Error(w, "no such login", http.StatusNotFound)
		return
	}
	c.mu.Lock()
	users := make([]string, 0, len(c.users))
	for name := range c.users {
		users = append(users, name)
	}
	c.mu.Unlock()
	slices.Sort(users)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if _, err := io.WriteString(w, idpPage(c.cfg.Name, id, users)); err != nil {
		c.cfg.Log.Debug("identity provider page", "err", err)
	}
}

// idpPage is the identity provider: one link per user, and one to refuse.
func idpPage(clusterName, id string, users []string) string {
	var b strings.Builder
	b.WriteString("<!DOCTYPE html>\n<title>Simulated identity provider</title>\n")
	fmt.Fprintf(&b, "<h1>Log in to %s as</h1>\n<ul>\n", html.EscapeString(clusterName))
	for _, user := range users {
		link := "/sim/idp/answer?" + url.Values{"id": {id}, "user": {user}}.Encode()
		fmt.Fprintf(&b, "<li><a href=\"%s\">%s</a></li>\n", html.EscapeString(link), html.EscapeString(user))
	}
	refuse := "/sim/idp/answer?" + url.Values{"id": {id}, "refuse": {"1"}}.Encode()
	fmt.Fprintf(&b, "<li><a href=\"%s\">nobody: refuse</a></li>\n</ul>\n", html.EscapeString(refuse))
	return b.String()
}

// handleIDPAnswer ends a single sign-on: it sends the browser to the client's
// loopback listener with the certs, sealed for it, or with a refusal.
func (c *Cluster) handleIDPAnswer(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	req, ok := c.sso.take(query.Get("id"))
	if !ok {
		http.Error(w, "no such login", http.StatusNotFound)
		return
	}
	to, err := url.Parse(req.RedirectURL)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	secret := to.Query().Get("secret_key")
	answer := url.Values{}
	if sealed, err := c.sealedLogin(query.Get("user"), query.Get("refuse") != "", req, secret); err != nil {
		c.counters.failedLogins.Add(1)
		answer.Set("err", err.Error())
	} else {
		answer.Set("response", sealed)
	}
	to.RawQuery = answer.Encode()
	http.Redirect(w, r, to.String(), http.StatusFound)
}

func (c *Cluster) sealedLogin(user string, refuse bool, req LoginRequest, secret string) (string, error) {
	u, ok := c.user(user)
	if refuse || !ok {
		return "", errors.New("access_denied")
	}
	resp, err := c.answerLogin(u, req)
	if err != nil {
		return "", err
	}
	return SealLogin(resp, secret)
}

// SealLogin encrypts a login's certs for their way through a browser; secret
// is a 32-byte key in hex.
func SealLogin(resp LoginResponse, secret string) (string, error) {
	aead, err := sealer(secret)
	if err != nil {
		return "", err
	}
	plain, err := json.Marshal(resp)
	if err != nil {
		return "", fmt.Errorf("encode login response: %w", err)
	}
	return base64.StdEncoding.EncodeToString(aead.Seal(nil, nil, plain, nil)), nil
}

// OpenLogin decrypts what SealLogin made.
func OpenLogin(sealed, secret string) (LoginResponse, error) {
	aead, err := sealer(secret)
	if err != nil {
		return LoginResponse{}, err
	}
	box, err := base64.StdEncoding.DecodeString(strings.TrimSpace(sealed))
	if err != nil {
		return LoginResponse{}, fmt.Errorf("decode login response: %w", err)
	}
	plain, err := aead.Open(nil, nil, box, nil)
	if err != nil {
		return LoginResponse{}, fmt.Errorf("open login response: %w", err)
	}
	var resp LoginResponse
	if err := json.Unmarshal(plain, &resp); err != nil {
		return LoginResponse{}, fmt.Errorf("parse login response: %w", err)
	}
	return resp, nil
}

func sealer(secret string) (cipher.AEAD, error) {
	key, err := hex.DecodeString(secret)
	if err != nil {
		return nil, errors.New("the secret key is not hex")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use secret key: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}
