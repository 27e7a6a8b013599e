package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"berth/agent/kubelocal"
	"berth/agent/state"
	"berth/internal/testwait"
	"berth/proxies/kube"
)

// lateKube is a tunnel to Kubernetes before whose turn something happens.
type lateKube struct {
	*kube.Tunnel
	before func()
}

func (l *lateKube) Bind() error {
	l.before()
	return l.Tunnel.Bind()
}

// TestSharedKubePortWaitsForAllTunnels: clients that are there before the agent, as after
// a take-over, find every tunnel.
func TestSharedKubePortWaitsForAllTunnels(t *testing.T) {
	t.Parallel()
	cfg := twoTunnels(state.TunnelSpec{Kind: state.KindKube, Cluster: "prod"})
	files := kubelocal.Config{StateDir: t.TempDir(), OnChange: func() {}, Logger: slog.New(slog.DiscardHandler), Absent: func(string) kube.Refusal {
		return kube.Refusal{Code: http.StatusServiceUnavailable, Message: "absent"}
	}}
	before := kubelocal.New(files) // what an agent left
	before.Start(t.Context(), cfg)
	ca, err := before.CA()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.CAPEM())
	cert, err := tls.X509KeyPair(ca.ClientPEM())
	if err != nil {
		t.Fatal(err)
	}

	set, done := setOf(t, cfg, files)
	defer done()
	type client struct{ serverName, path, want string }
	clients := []client{
		{kube.ServerName("two"), "/api/v1/pods", "no login for two"},
		{"", "/two/api/v1/pods", "no login for two"},
		{"", "/three/api/v1/pods", "one, two"},
	}
	said := make(chan struct{}, len(clients))
	set.newCarrier = func(tun *tunnel) carrier {
		l, name := set.cfg.Kube.Listener(t.Context(), 0), tun.spec.Name
		k := kube.New(kube.Config{Name: name, Listener: l, Source: func(context.Context) (*kube.Upstream, error) {
			return nil, errors.New("no login for " + name)
		}})
		return &lateKube{Tunnel: k, before: func() {
			if name != "two" {
				return
			}
			for _, c := range clients {
				tr := &http.Transport{TLSClientConfig: &tls.Config{
					RootCAs: roots, Certificates: []tls.Certificate{cert}, ServerName: c.serverName, MinVersion: tls.VersionTLS12,
				}}
				t.Cleanup(tr.CloseIdleConnections)
				url := "https://" + l.Status().Addresses[0] + c.path
				go func() {
					resp, err := (&http.Client{Transport: tr, Timeout: testwait.Patience}).Get(url)
					if err != nil {
						t.Errorf("%s: %v", c.path, err)
						said <- struct{}{}
						return
					}
					defer resp.Body.Close()
					text, _ := io.ReadAll(resp.Body) // what there is of it is compared
					if !strings.Contains(string(text), c.want) {
						t.Errorf("%s for %q: %s", c.path, c.serverName, text)
					}
					said <- struct{}{}
				}()
			}
			testwait.Moment() // in which the first would have its answer
		}}
	}
	set.Start(cfg)
	for range clients {
		<-said
	}
}
