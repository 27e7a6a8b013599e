package simcluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/profile"
	"golang.org/x/crypto/ssh"

	"berth/internal/tshhome"
)

func TestLoginWritesBothLayouts(t *testing.T) {
	for _, tt := range []struct {
		name   string
		layout tshhome.Layout
		key    KeyKind
		have   []string
	}{
		{"v16_rsa", tshhome.V16, RSA, []string{"alice", "alice.pub", "alice-x509.pem", "alice-ssh/sim.test-cert.pub", "cas/sim.test.pem", "certs.pem"}},
		{"v16_ecdsa", tshhome.V16, ECDSA, []string{"alice", "alice-x509.pem"}},
		{"v17_ecdsa", tshhome.V17, ECDSA, []string{"alice.key", "alice.crt", "alice", "alice.pub", "alice-ssh/sim.test-cert.pub", "cas/sim.test.pem"}},
		{"v17_ed25519", tshhome.V17, Ed25519, []string{"alice.key", "alice.crt"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := start(t, Config{})
			home := t.TempDir()
			if err := c.Login(home, "alice", WithLayout(tt.layout), WithKey(tt.key)); err != nil {
				t.Fatal(err)
			}
			for _, name := range tt.have {
				if _, err := os.Stat(filepath.Join(home, "keys", "localhost", name)); err != nil {
					t.Error(err)
				}
			}
			p, err := profile.FromDir(home, "")
			if err != nil {
				t.Fatal(err)
			}
			if p.WebProxyAddr != c.ProxyAddr() || p.Username != "alice" || p.SiteName != "sim.test" || !p.TLSRoutingEnabled {
				t.Errorf("profile: %+v", p)
			}
			if tt.layout == tshhome.V17 {
				if _, err := p.TLSConfig(); err != nil {
					t.Errorf("the api module's loader: %v", err)
				}
				if _, err := p.SSHClientConfig(); err != nil {
					t.Errorf("the api module's SSH loader: %v", err)
				}
			}
		})
	}
}

func TestLoginThatIsOver(t *testing.T) {
	c := start(t, Config{SessionTTL: 8 * time.Hour})
	leaf := loginCert(t, c, "alice", WithTTL(-time.Hour)).Leaf
	if ago := time.Since(leaf.NotAfter); ago < time.Hour || ago > time.Hour+time.Minute {
		t.Errorf("ended %v ago, want 1 h", ago)
	}
	if got := leaf.NotAfter.Sub(leaf.NotBefore); got < 8*time.Hour || got > 8*time.Hour+2*time.Minute {
		t.Errorf("it lasted %v, want a whole session", got)
	}
}

func TestLoginRefusals(t *testing.T) {
	c := start(t, Config{})
	if err := c.Login(t.TempDir(), "mallory"); !errors.Is(err, errBadLogin) {
		t.Errorf("unknown user: %v", err)
	}
	wantText(t, c.Login(t.TempDir(), "alice", WithLeaf("nowhere")), `cluster "nowhere" is not found`)
	wantText(t, c.Login(t.TempDir(), "alice", WithRequests("x")), `access request "x" not found`)
}

// webClient trusts the proxy's web cert.
func webClient(t *testing.T, c *Cluster) *http.Client {
	t.Helper()
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.TLSClientConfig.RootCAs = c.WebCAPool()
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// post posts to the web API and returns the answer.
func post(t *testing.T, c *Cluster, path string, req any) (int, []byte) {
	t.Helper()
	body, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := webClient(t, c).Post("https://"+c.ProxyAddr()+path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

func pubKey(t *testing.T) []byte {
	t.Helper()
	key, err := NewKey(ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return ssh.MarshalAuthorizedKey(pub)
}

func TestPasswordLogin(t *testing.T) {
	c := start(t, Config{Users: []User{{Name: "alice", Password: "right"}, {Name: "otto", Password: "right", OTP: "123456"}, {Name: "sso"}}})
	for _, tt := range []struct {
		name string
		req  LoginRequest
		code int
	}{
		{"right", LoginRequest{User: "alice", Password: "right"}, http.StatusOK},
		{"wrong_password", LoginRequest{User: "alice", Password: "wrong"}, http.StatusForbidden},
		{"unknown_user", LoginRequest{User: "mallory", Password: "right"}, http.StatusForbidden},
		{"user_without_password", LoginRequest{User: "sso"}, http.StatusForbidden},
		{"otp", LoginRequest{User: "otto", Password: "right", OTPToken: "123456"}, http.StatusOK},
		{"wrong_otp", LoginRequest{User: "otto", Password: "right", OTPToken: "1"}, http.StatusForbidden},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.req.PubKey, tt.req.TTL = pubKey(t), time.Hour
			code, body := post(t, c, "/webapi/ssh/certs", tt.req)
			if code != tt.code {
				t.Fatalf("status %d, want %d: %s", code, tt.code, body)
			}
			if code != http.StatusOK {
				if !strings.Contains(string(body), "invalid username or password") {
					t.Errorf("answer %s", body)
				}
				return
			}
			var resp LoginResponse
			if err := json.Unmarshal(body, &resp); err != nil || resp.Username != tt.req.User || resp.TLSCert == nil || resp.Cert == nil {
				t.Errorf("answer %s, %v", body, err)
			}
		})
	}
	if n := c.Counters(); n.Logins != 2 || n.FailedLogins != 4 {
		t.Errorf("%d logins, %d failed; want 2 and 4", n.Logins, n.FailedLogins)
	}
}

func TestSingleSignOn(t *testing.T) {
	c := start(t, Config{Connectors: []Connector{{Name: "okta", Type: OIDC}}})
	const secret = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	answer := func(link string) url.Values {
		t.Helper()
		code, body := post(t, c, "/webapi/oidc/login/console", LoginRequest{
			PubKey: pubKey(t), ConnectorID: "okta", RedirectURL: "http://127.0.0.1:1/callback?secret_key=" + secret,
		})
		var begun struct {
			RedirectURL string `json:"redirect_url"`
		}
		if err := json.Unmarshal(body, &begun); err != nil || code != http.StatusOK {
			t.Fatalf("status %d: %s, %v", code, body, err)
		}
		hc := webClient(t, c)
		hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		page, err := hc.Get(begun.RedirectURL)
		if err != nil {
			t.Fatal(err)
		}
		html, err := io.ReadAll(page.Body)
		if err != nil || page.Body.Close() != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(html)) {
			if strings.Contains(line, ">"+link+"<") {
				_, rest, _ := strings.Cut(line, `href="`)
				href, _, _ := strings.Cut(rest, `"`)
				resp, err := hc.Get("https://" + c.ProxyAddr() + strings.ReplaceAll(href, "&amp;", "&"))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				to, err := resp.Location()
				if err != nil || to.Host != "127.0.0.1:1" {
					t.Fatalf("sent to %v, %v", to, err)
				}
				return to.Query()
			}
		}
		t.Fatalf("no link %q in %s", link, html)
		return nil
	}
	resp, err := OpenLogin(answer("alice").Get("response"), secret)
	if err != nil || resp.Username != "alice" || resp.TLSCert == nil {
		t.Errorf("login response %+v, %v", resp.Username, err)
	}
	if got := answer("nobody: refuse").Get("err"); got != "access_denied" {
		t.Errorf("refusal %q", got)
	}
	for _, tt := range []struct{ redirect, connector, want string }{
		{"http://example.com/?secret_key=" + secret, "okta", "loopback"},
		{"http://127.0.0.1:1/", "okta", "secret_key"},
		{"http://127.0.0.1:1/?secret_key=" + secret, "nope", "is not found"},
	} {
		code, body := post(t, c, "/webapi/oidc/login/console", LoginRequest{ConnectorID: tt.connector, RedirectURL: tt.redirect})
		if code == http.StatusOK || !strings.Contains(string(body), tt.want) {
			t.Errorf("%s at %s: status %d, %s", tt.connector, tt.redirect, code, body)
		}
	}
}

func TestSealedLoginNeedsItsKey(t *testing.T) {
	secret, other := strings.Repeat("01", 32), strings.Repeat("02", 32)
	sealed, err := SealLogin(LoginResponse{Username: "alice"}, secret)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := OpenLogin(sealed, secret); err != nil || resp.Username != "alice" {
		t.Errorf("with its key: %+v, %v", resp, err)
	}
	for _, bad := range []string{other, "", "zz"} {
		if _, err := OpenLogin(sealed, bad); err == nil {
			t.Errorf("opened with key %q", bad)
		}
	}
}
