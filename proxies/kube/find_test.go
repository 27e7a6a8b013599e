package kube

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestClientsWithoutServerName has clients that know no server name, or another
// one, use a port that tunnels share.
func TestClientsWithoutServerName(t *testing.T) {
	l := shared(t)
	names := []string{"prod", "Prod", "team.dev", "api", "under_score"}
	var configured []string
	l.cfg.Names = func() []string { return configured }
	start := func(name string) *running {
		configured = append(configured, name)
		c := newCluster(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/api/v1/moved" {
				w.Header().Set("Location", "/api/v1/moved/")
				w.WriteHeader(http.StatusMovedPermanently)
				return
			}
			_, _ = io.WriteString(w, name+" "+r.URL.EscapedPath()+"?"+r.URL.RawQuery)
		})
		return run(t, Config{Name: name, Listener: l, Source: always(c.upstream())})
	}
	addr := l.Status().Addresses[0]
	ask := func(sni, host, path string) (int, string, http.Header) {
		t.Helper()
		client := kubectl(t, "")
		tr := client.Transport.(*http.Transport)
		if sni != "" {
			tr.TLSClientConfig.ServerName = sni
			tr.TLSClientConfig.InsecureSkipVerify = sni != "localhost" && !ours(sni)
		}
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		resp, err := client.Get("https://" + host + path)
		if err != nil {
			t.Fatalf("%s %s: %v", sni, path, err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), resp.Header
	}
	says := func(want, sni, path string) {
		t.Helper()
		if code, body, _ := ask(sni, addr, path); code != 200 || body != want {
			t.Errorf("%q %s: %d %s, want %s", sni, path, code, body, want)
		}
	}
	refused := func(sni, path string, words ...string) {
		t.Helper()
		code, body, _ := ask(sni, addr, path)
		if code < 400 {
			t.Fatalf("%q %s: served with %s", sni, path, body)
		}
		if !readRaw(strings.TrimPrefix(path, "/prod")) {
			statusOf(t, code, body)
		}
		for _, word := range words {
			if !strings.Contains(body, word) {
				t.Errorf("%q %s: %s, want %q", sni, path, body, word)
			}
		}
	}

	refused("", "/api/v1/pods", "no tunnel on this port")
	only := start(names[0])
	for _, sni := range []string{"", "localhost", "kubernetes.default"} { // there is no doubt
		says("prod /api/v1/pods?", sni, "/api/v1/pods")
		says("prod /version?", sni, "/version")
		says("prod /api/v1/pods?watch=0", sni, "/prod/api/v1/pods?watch=0")
	}
	says("prod /?", "", "/")
	says("prod /?", "", "/prod")
	says("prod /?", "", "/prod/")
	says("prod /api/a%2Fb/prod?", "", "/prod/api/a%2Fb/prod")
	says("prod /prodigy/api?", "", "/prodigy/api")

	for _, name := range names[1:] {
		start(name)
	}
	for _, name := range names {
		if name == "api" {
			continue
		}
		says(name+" /api/v1/pods?", "", "/"+name+"/api/v1/pods")
		says(name+" /api/v1/pods?", "localhost", "/"+name+"/api/v1/pods")
		says(name+" /api/v1/pods?", ServerName(name), "/api/v1/pods")
		says(name+" /api/v1/pods?", ServerName(name), "/"+name+"/api/v1/pods")
	}
	says("api /api/v1/pods?", ServerName("api"), "/api/v1/pods")
	for _, sni := range []string{"", "localhost", "kubernetes.default", "a." + ServerName("prod")} {
		refused(sni, "/api/v1/pods", "several tunnels share this port", "https://"+addr+"/NAME", "prod, Prod, team.dev")
		refused(sni, "/version", "several tunnels share this port")
		refused(sni, "/nope/api/v1/pods", "several tunnels share this port", `none of them is called \"nope\"`)
		if code, body, _ := ask(sni, addr, "/nope/api"); code != 403 || strings.HasPrefix(body, "{") { // kubectl prints no other
			t.Errorf("%q: %d %s", sni, code, body)
		}
	}
	// The case of a name does not matter, as names differ in more.
	says("team.dev /api/v1/pods?", "", "/Team.Dev/api/v1/pods")
	says("prod /api/v1/pods?", strings.ToUpper(ServerName("prod")), "/PROD/api/v1/pods")
	refused(ServerName("gone"), "/prod/api/v1/pods", "gone")
	if code, _, header := ask("", addr, "/prod/api/v1/moved"); code != 301 || header.Get("Location") != "/prod/api/v1/moved/" {
		t.Errorf("redirected with %d to %q", code, header.Get("Location"))
	}

	// A tunnel that is stopped is still one of those a client may mean.
	only.stop()
	refused("", "/prod/api/v1/pods", ServerName("prod"))
	refused("", "/prod/version", ServerName("prod"))
	configured = []string{"prod"}
	refused("", "/api/v1/pods", ServerName("prod"))
	configured = nil
	refused("", "/api/v1/pods", "no tunnel on this port")
}

func TestPathOf(t *testing.T) {
	for name, want := range map[string]string{"prod": "/prod", "a b": "/a%20b", "api": "", "version": ""} {
		if got := PathOf(name); got != want {
			t.Errorf("PathOf(%q) = %q, want %q", name, got, want)
		}
	}
}

// TestStrangersWithoutServerName: no name lets anyone in who shows no cert.
func TestStrangersWithoutServerName(t *testing.T) {
	c := newCluster(t, ok)
	l := shared(t)
	run(t, Config{Listener: l, Source: always(c.upstream())})
	for _, sni := range []string{"", "localhost", ServerName("prod")} {
		cfg := tlsFor(t, "")
		cfg.Certificates, cfg.ServerName = nil, sni
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patienceInTests}, "tcp", l.Status().Addresses[0], cfg)
		if err == nil { // of TLS 1.3 the refusal is what comes first
			_ = conn.SetDeadline(time.Now().Add(patienceInTests))
			_, err = conn.Read(make([]byte, 1))
			conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tls.AlertError(116).Error()) && !strings.Contains(err.Error(), "certificate required") {
			t.Errorf("%q: answered with %v", sni, err)
		}
	}
}
