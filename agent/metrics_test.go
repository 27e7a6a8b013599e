//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// get asks the agent's metrics for a page.
func get(t *testing.T, c *http.Client, url string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	must(t, err)
	resp, err := c.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(all)
}

// overSocket is a client of a Unix socket.
func overSocket(t *testing.T, path string) *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func overTCP(t *testing.T) *http.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// metricsConfig is config with lines about metrics.
func (e *env) metricsConfig(metrics string, tunnels ...string) {
	e.t.Helper()
	e.Configure(e.Trust(), "tunnels:\n  - {"+strings.Join(tunnels, "}\n  - {")+"}", "metrics: {"+metrics+"}")
}

// TestReadinessDoesNotLie: a proxy that accepts and then hangs turns a tunnel red,
// and green after it is back: each within ten seconds where the machine has time.
func TestReadinessDoesNotLie(t *testing.T) {
	testneeds.Time(t, "a tunnel that hangs is found within ten seconds, and not at once")
	t.Parallel()
	e := newEnv(t, simcluster.Config{
		Databases: []simcluster.Database{{Name: "pg", Protocol: "postgres"}, {Name: "cache", Protocol: "redis"}},
		Kubes:     []simcluster.Kube{{Name: "k"}},
	})
	e.Login()
	pg, _ := e.pgTunnel("pg")
	listen := fmt.Sprintf("127.0.0.1:%d", simworld.FreePort(t))
	e.metricsConfig("listen: '"+listen+"'", pg,
		fmt.Sprintf("name: cache, kind: db, cluster: %s, resource: cache, port: %d", e.Sim.Name(), simworld.FreePort(t)),
		e.kubeTunnel("k", "k", fmt.Sprintf("port: %d", simworld.FreePort(t))))
	e.start()
	c := overTCP(t)
	names := []string{"pg", "cache", "k"}
	e.awaitServed(c, "http://"+listen)
	for _, name := range names {
		e.AwaitState(name, state.TunnelReady)
	}
	e.turns(c, listen, names, http.StatusOK)
	must(t, e.Sim.Faults().Proxy(simcluster.Stalled))
	e.turns(c, listen, names, http.StatusServiceUnavailable)
	if code, body := get(t, c, "http://"+listen+"/livez"); code != http.StatusOK {
		t.Errorf("the agent is not to blame: %d %s", code, body)
	}
	must(t, e.Sim.Faults().Clear())
	e.turns(c, listen, names, http.StatusOK)
	if n := e.Sim.Counters(); n.DBTotal["cache"] != 0 || n.KubeTotal["k"] != 0 {
		t.Errorf("probes made sessions: %v %v", n.DBTotal, n.KubeTotal)
	}
}

// awaitServed waits until metrics are served: a listener of their own, which the agent
// opens when it has begun.
func (e *env) awaitServed(c *http.Client, base string) {
	e.t.Helper()
	testwait.Eventually(e.t, "metrics", func() bool {
		code, _ := get(e.t, c, base+"/livez")
		return code == http.StatusOK
	})
}

// turns waits until tunnels turn to a status, and logs how long that took.
func (e *env) turns(c *http.Client, listen string, names []string, want int) {
	e.t.Helper()
	began := time.Now()
	for _, name := range append([]string{""}, names...) {
		page := "http://" + listen + "/readyz"
		if name != "" {
			page += "/" + name
		}
		testwait.Eventually(e.t, page+" to turn", func() bool {
			code, _ := get(e.t, c, page)
			return code == want
		})
	}
	e.t.Logf("all turned %d after %s", want, time.Since(began).Round(10*time.Millisecond))
}

// TestMetricsOverASocket: without an address they are served over a socket that only
// this user can reach, which goes when the config says so.
func TestMetricsOverASocket(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	pg, _ := e.pgTunnel("pg")
	e.metricsConfig("enabled: true, labels: names", pg)
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	path := e.Paths.MetricsSocket()
	c := overSocket(t, path)
	for _, line := range []string{`berth_tunnel_ready{protocol="postgres",tunnel="pg"} 1`, `berth_tunnels{state="ready"} 1`} {
		testwait.Eventually(t, line, func() bool {
			code, page := get(t, c, "http://localhost/metrics")
			return code == http.StatusOK && strings.Contains(page, line)
		})
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	e.config(pg)
	testwait.Eventually(t, "the socket to go", func() bool { _, err := os.Stat(path); return errors.Is(err, fs.ErrNotExist) })
}
