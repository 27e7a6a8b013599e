package faketsh

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"berth/internal/simcluster"
)

// ssoTimeout is how long tsh waits for the browser to come back.
const ssoTimeout = 180 * time.Second

// singleSignOn logs in through a browser, which comes back to a listener on
// loopback.
func (t *tsh) singleSignOn(ctx context.Context, addr, kind string, req simcluster.LoginRequest) (*simcluster.LoginResponse, error) {
	timeout := ssoTimeout
	if s := t.env["BERTH_FAKE_TSH_SSO_TIMEOUT"]; s != "" {
		var err error
		if timeout, err = time.ParseDuration(s); err != nil {
			return nil, err
		}
	}
	bind := t.flag("bind-addr", "TELEPORT_LOGIN_BIND_ADDR")
	if bind == "" {
		bind = "127.0.0.1:0"
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", bind)
	if err != nil {
		return nil, err
	}
	base := "http://" + ln.Addr().String()
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	cb := &callback{secret: hex.EncodeToString(secret), path: "/" + uuid.NewString(), result: make(chan ssoResult, 1)}
	req.RedirectURL = base + "/callback?secret_key=" + cb.secret
	var begun struct {
		RedirectURL string `json:"redirect_url"`
	}
	if err := t.web(ctx, addr, "/webapi/"+kind+"/login/console", req, &begun); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	cb.provider = begun.RedirectURL
	srv := &http.Server{Handler: cb, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.printLoginURL(base + cb.path)
	resp, err := cb.wait(ctx, timeout)
	// The browser may still be reading its answer.
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = srv.Shutdown(shutdown)
	<-served
	return resp, err
}

// printLoginURL says where to log in. This tsh never starts a browser.
func (t *tsh) printLoginURL(link string) {
	browser := t.flag("browser", "TELEPORT_LOGIN_BROWSER")
	if browser == "none" || t.flags["browser-login"] == "none" {
		fmt.Fprintf(t.stderr, "Use the following URL to authenticate:\n %s\n", link)
		return
	}
	fmt.Fprintf(t.stderr, "If browser window does not open automatically, open it by clicking on the link:\n %s\n", link)
}

// callback is the listener a browser begins at and comes back to.
type callback struct {
	secret   string
	path     string // of the short link
	provider string // where the short link leads
	result   chan ssoResult
}

type ssoResult struct {
	resp *simcluster.LoginResponse
	err  error
}

// ServeHTTP sends the browser to the identity provider, and takes its answer.
func (cb *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case cb.path:
		http.Redirect(w, r, cb.provider, http.StatusFound)
	case "/callback":
		res := cb.answer(r.URL.Query())
		select {
		case cb.result <- res:
		default: // answered already
		}
		if res.err != nil {
			http.Error(w, "Login failed. You may close this window.", http.StatusForbidden)
			return
		}
		fmt.Fprintln(w, "Login successful. You may close this window.")
	default:
		http.NotFound(w, r)
	}
}

func (cb *callback) answer(query url.Values) ssoResult {
	if text := query.Get("err"); text != "" {
		return ssoResult{err: fmt.Errorf("identity provider callback failed with error: %s", text)}
	}
	resp, err := simcluster.OpenLogin(query.Get("response"), cb.secret)
	return ssoResult{resp: &resp, err: err}
}

func (cb *callback) wait(ctx context.Context, timeout time.Duration) (*simcluster.LoginResponse, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case res := <-cb.result:
		if res.err != nil {
			return nil, res.err
		}
		return res.resp, nil
	case <-timer.C:
		return nil, errors.New("timed out waiting for callback")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
