package faketsh

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/client"
)

// ping is what the proxy tells about how to log in.
type ping struct {
	Auth struct {
		Type             string     `json:"type"`
		SecondFactor     string     `json:"second_factor"`
		PrivateKeyPolicy string     `json:"private_key_policy"`
		OIDC             *connector `json:"oidc"`
		SAML             *connector `json:"saml"`
		GitHub           *connector `json:"github"`
	} `json:"auth"`
	Proxy struct {
		TLSRoutingEnabled bool `json:"tls_routing_enabled"`
	} `json:"proxy"`
	ServerVersion string `json:"server_version"`
	ClusterName   string `json:"cluster_name"`
}

type connector struct {
	Name string `json:"name"`
}

// connector returns the single sign-on connector to use, "" for a local login.
func (p *ping) connector() string {
	for _, c := range []*connector{p.Auth.OIDC, p.Auth.SAML, p.Auth.GitHub} {
		if c != nil {
			return c.Name
		}
	}
	return ""
}

// untrusted is what tsh says about a web cert it cannot verify; it begins as
// the real one does.
const untrusted = `WARNING: The proxy you are connecting to has presented a certificate signed by a unknown authority. ` +
	`Either it is self-signed, or its authority is not known to this machine.

To trust a private authority, name its certificate in SSL_CERT_FILE or SSL_CERT_DIR and try again.

To go on without verifying the certificate, use the --insecure flag.

If none of this was to be expected, ask the administrator of your Teleport cluster before going on.`

// webRoots returns what web certs are verified with; nil means the system's.
func (t *tsh) webRoots() (*x509.CertPool, error) {
	path := t.env["SSL_CERT_FILE"]
	if path == "" {
		return nil, nil // nil means the system's roots
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return pool, nil
}

// web calls the proxy's web API and decodes the answer into resp; req is nil
// for a GET.
func (t *tsh) web(ctx context.Context, addr, path string, req, resp any) error {
	roots, err := t.webRoots()
	if err != nil {
		return err
	}
	tr := &http.Transport{TLSClientConfig: t.webTLS(roots), DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	hc := &http.Client{Transport: tr, Timeout: 30 * time.Second}
	answer, err := t.do(ctx, hc, "https://"+addr+path, req)
	if err != nil && t.flags.on("insecure") && isLoopback(addr) {
		answer, err = t.do(ctx, hc, "http://"+addr+path, req)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return errors.New(untrusted)
	}
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return webError(answer.StatusCode, body)
	}
	return json.Unmarshal(body, resp)
}

func (t *tsh) do(ctx context.Context, hc *http.Client, url string, body any) (*http.Response, error) {
	method, content := http.MethodGet, []byte(nil)
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return nil, err
		}
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	return hc.Do(req)
}

func webError(code int, body []byte) error {
	var answer struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &answer) == nil && answer.Error.Message != "" {
		return errors.New(answer.Error.Message)
	}
	return fmt.Errorf("the proxy answered with status %d", code)
}

func (t *tsh) webTLS(roots *x509.CertPool) *tls.Config {
	return &tls.Config{
		RootCAs:            roots,
		InsecureSkipVerify: t.flags.on("insecure"), //nolint:gosec // that is what the flag is for
		MinVersion:         tls.VersionTLS12,
	}
}

func isLoopback(addr string) bool {
	host := profileName(addr)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// ping asks the proxy how to log in; auth is a connector's name or "".
func (t *tsh) ping(ctx context.Context, addr, auth string) (*ping, error) {
	path := "/webapi/ping"
	if auth != "" {
		path += "/" + auth
	}
	var p ping
	if err := t.web(ctx, addr, path, nil, &p); err != nil {
		return nil, err
	}
	return &p, nil
}

// upgradeRequired reports whether the proxy sits behind something that ends
// TLS.
func (t *tsh) upgradeRequired(ctx context.Context, addr string) bool {
	return client.IsALPNConnUpgradeRequired(ctx, addr, true)
}

// withPort adds the port a proxy address is without.
func withPort(addr string) string {
	addr = strings.TrimPrefix(addr, "https://")
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	return net.JoinHostPort(addr, "443")
}
