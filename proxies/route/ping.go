package route

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"berth/internal/plain"
)

// What is read of an answer to Ping, and how often it may lead elsewhere. A proxy
// that is none, or a hostile one, may answer without end.
const (
	maxPong      = 1 << 20
	maxPongHead  = 64 << 10
	maxRedirects = 5
	maxStatus    = 80
)

// Pong is what a proxy says of itself.
type Pong struct {
	Version   string // its own
	MinClient string // the least version of tsh that it takes
	Auth      string // how one logs in
	Date      time.Time
}

// Ping asks a proxy what it says of itself, and of how one logs in with a connector
// of its own, or the default for an empty one. The api module can do the same, but
// reads an answer of any length.
func Ping(ctx context.Context, proxyAddr, connector string, rootCAs *x509.CertPool, insecure bool) (Pong, error) {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, MaxResponseHeaderBytes: maxPongHead,
		TLSClientConfig: &tls.Config{RootCAs: rootCAs, InsecureSkipVerify: insecure, MinVersion: tls.VersionTLS12}, //nolint:gosec // G402: the user's explicit choice for this proxy
	}
	defer transport.CloseIdleConnections()
	at := (&url.URL{Scheme: "https", Host: proxyAddr, Path: "/webapi/ping"})
	if connector != "" {
		at = at.JoinPath(connector)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), http.NoBody)
	if err != nil {
		return Pong{}, err
	}
	asker := &http.Client{Transport: transport, CheckRedirect: func(to *http.Request, via []*http.Request) error {
		if to.URL.Scheme != "https" || len(via) > maxRedirects {
			return errors.New("it leads elsewhere without end, or without TLS")
		}
		return nil
	}}
	resp, err := asker.Do(req)
	if err != nil {
		return Pong{}, err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	var said struct {
		Auth struct {
			Type string `json:"type"`
		} `json:"auth"`
		ServerVersion    string `json:"server_version"`
		MinClientVersion string `json:"min_client_version"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, maxPong)).Decode(&said)
	switch {
	case resp.StatusCode != http.StatusOK:
		return Pong{}, fmt.Errorf("the answer is %q", plain.Short(resp.Status, maxStatus))
	case ctx.Err() != nil:
		return Pong{}, fmt.Errorf("the answer to /webapi/ping does not come to its end: %w", ctx.Err())
	case err != nil || said.ServerVersion == "":
		return Pong{}, errors.New("the answer to /webapi/ping is not Teleport's")
	}
	date, _ := http.ParseTime(resp.Header.Get("Date")) // without one the clock is not compared
	return Pong{Version: said.ServerVersion, MinClient: said.MinClientVersion, Auth: said.Auth.Type, Date: date}, nil
}
