package demo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"berth/agent/state"
	"berth/proxies/kube/kubeconfig"
)

// tryKube lists pods with what berth's kubeconfig gives a client.
func (d *demo) tryKube(ctx context.Context, _ map[string]state.Tunnel) error {
	data, err := os.ReadFile(kubeconfig.Path(d.paths.StateDir))
	if err != nil {
		return err
	}
	contexts, err := kubeconfig.Contexts(data)
	if err != nil {
		return err
	}
	if len(contexts) != 1 {
		return fmt.Errorf("the kubeconfig has %d contexts", len(contexts))
	}
	k := contexts[0]
	cert, err := tls.X509KeyPair(k.ClientCert, k.ClientKey)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(k.CA)
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: roots, ServerName: k.ServerName, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12,
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.Server+"/api/v1/namespaces/default/pods", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // all of it was read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "web-0") {
		return fmt.Errorf("it answers %s: %.200s", resp.Status, body)
	}
	return nil
}
