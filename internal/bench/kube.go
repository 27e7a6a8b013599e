package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"berth/agent/ipc/client"
	"berth/internal/paths"
	"berth/internal/simcluster/simkube"
	"berth/proxies/kube/kubeconfig"
)

const (
	mostKubes = 20
	// plainPath is answered with a body like that of a small object, slowPath
	// with the same after slowFor, which is about what a real API server takes.
	plainPath, slowPath = "/bench/plain", "/bench/slow"
	slowFor             = 5 * time.Millisecond
	plainSize           = 4 << 10
)

func kubeName(i int) string { return fmt.Sprintf("kube-%02d", i+1) }

// kubeUpstream is what all Kubernetes clusters of the world are.
func kubeUpstream() http.Handler {
	api := simkube.New(simkube.Config{LogInterval: -1, BookmarkInterval: time.Hour})
	body := []byte(`{"data":"` + strings.Repeat("x", plainSize) + `"}`)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case slowPath:
			if pause(r.Context(), slowFor) != nil {
				return
			}
			fallthrough
		case plainPath:
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(body) // or the client left
		default:
			api.ServeHTTP(w, r)
		}
	})
}

// kubeAgent is an agent with tunnels to Kubernetes.
type kubeAgent struct {
	*agent
	kubeconfig string
}

// startKubeAgent starts an agent with tunnels to the first n Kubernetes
// clusters, and waits until they are ready.
func (w *world) startKubeAgent(ctx context.Context, n int) (*kubeAgent, error) {
	var tunnels strings.Builder
	for i := range n {
		fmt.Fprintf(&tunnels, "  - {name: %s, kind: kube, cluster: %s, resource: %s}\n", kubeName(i), w.sim.Name(), kubeName(i))
	}
	w.agents++
	head := fmt.Sprintf("version: 1\nhomes: [%q]\nprofiles:\n  - {proxy: %q, ca_file: %q}\n", w.home, w.sim.ProxyAddr(), w.caFile)
	return launchKube(ctx, w, filepath.Join(w.dir, strconv.Itoa(w.agents)), head+"tunnels:\n"+tunnels.String(), n)
}

// launchKube runs berth with a config of n tunnels, all to Kubernetes.
func launchKube(ctx context.Context, w *world, dir, config string, n int) (*kubeAgent, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	a, err := launch(ctx, w.binary, dir, config+fmt.Sprintf("kube: {port: %d}\n", ports[0]), ports, w.load)
	if err != nil {
		return nil, err
	}
	a.tunnels = n
	if err := a.awaitTunnels(ctx); err != nil {
		return nil, errors.Join(err, a.stop())
	}
	p, err := paths.Resolve(func(key string) string { return map[string]string{paths.HomeVar: dir}[key] })
	if err != nil {
		return nil, errors.Join(err, a.stop())
	}
	return &kubeAgent{agent: a, kubeconfig: kubeconfig.Path(p.StateDir)}, nil
}

// apiClient is a client of one Kubernetes cluster: one HTTP/2 connection.
type apiClient struct {
	name, base string
	http       *http.Client
}

func newAPIClient(name, base string, cfg *tls.Config) apiClient {
	return apiClient{name, base, &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}}}
}

// through is a client of a tunnel.
func (a *kubeAgent) through(tunnel string) (apiClient, error) {
	file, err := clientcmd.LoadFromFile(a.kubeconfig)
	if err != nil {
		return apiClient{}, err
	}
	cfg, err := clientcmd.NewNonInteractiveClientConfig(*file, kubeconfig.ContextName(tunnel), nil, nil).ClientConfig()
	if err != nil {
		return apiClient{}, err
	}
	tlsCfg, err := rest.TLSConfigFor(cfg)
	return newAPIClient("berth", cfg.Host, tlsCfg), err
}

// direct is a client of the Teleport proxy, with a cert minted in the same way.
func (a *kubeAgent) direct(ctx context.Context, cluster, kube string) (apiClient, error) {
	c := client.Dial(a.socket)
	defer c.Close()
	k, err := c.KubeCredentials(ctx, cluster, kube)
	if err != nil {
		return apiClient{}, err
	}
	cert, err := tls.X509KeyPair(k.Cert, k.Key)
	if err != nil {
		return apiClient{}, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(k.CA)
	return newAPIClient("direct", k.Server, &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, RootCAs: roots, ServerName: k.ServerName,
	}), nil
}

// get asks once, and reads the whole answer.
func (c apiClient) get(ctx context.Context, path string) error {
	resp, err := c.open(ctx, path)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

func (c apiClient) open(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("%s: %s", path, resp.Status), resp.Body.Close())
	}
	return resp, err
}

// kube measures tunnels to Kubernetes.
func (b *bench) kube(ctx context.Context) (err error) {
	a, err := b.startKubeAgent(ctx, mostKubes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	name := kubeName(0)
	if err := b.kubeRate(ctx, a, rateRun{tunnel: name, cluster: b.sim.Name(), kube: name, loads: []rateLoad{
		{fmt.Sprintf("an API that answers in %d ms", slowFor.Milliseconds()), slowPath, 10},
		{fmt.Sprintf("an API that answers in %d ms", slowFor.Milliseconds()), slowPath, 1},
		{"an API that answers at once", plainPath, 8},
	}}); err != nil {
		return err
	}
	if err := b.kubeMemory(ctx); err != nil {
		return err
	}
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		b.say("  no kubectl: what it takes is not measured; \"make test-deps\" says how to get one")
		return nil
	}
	tsh, err := b.fakeTSH()
	if err != nil {
		return err
	}
	return b.kubectls(ctx, a, kubectlRun{
		kubectl: kubectl, tsh: tsh, home: b.home, caFile: b.caFile,
		cluster: b.sim.Name(), kube: kubeName(0), tunnel: kubeName(0),
	})
}

// fakeTSH is this program under the name of tsh; see main.
func (w *world) fakeTSH() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(w.dir, "bin", "tsh")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	if err := os.Symlink(self, path); !errors.Is(err, fs.ErrExist) { // another group has made it
		return path, err
	}
	return path, nil
}

// kubeMemory measures an agent with many tunnels and many open watches.
func (b *bench) kubeMemory(ctx context.Context) (err error) {
	const watches = 200
	a, err := b.startKubeAgent(ctx, mostKubes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	settle := b.span(10*time.Second, time.Second)
	if err := pause(ctx, settle); err != nil {
		return err
	}
	before, err := memoryOf(a.pid())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the watches
	var clients []apiClient
	for i := range mostKubes {
		c, err := a.through(kubeName(i))
		if err != nil {
			return err
		}
		clients = append(clients, c)
	}
	for i := range watches {
		resp, err := clients[i%mostKubes].open(ctx, "/api/v1/namespaces/default/pods?watch=true")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := resp.Body.Read(make([]byte, 64<<10)); err != nil {
			return err
		}
	}
	if err := pause(ctx, settle); err != nil {
		return err
	}
	after, err := memoryOf(a.pid())
	if err != nil {
		return err
	}
	b.add(row{
		what:     fmt.Sprintf("%d tunnels to Kubernetes and %d open watches: resident memory", mostKubes, watches),
		measured: fmt.Sprintf("%s; without the watches %s", mb(float64(after.rss)), mb(float64(before.rss))),
		figure:   float64(after.rss),
	})
	return nil
}
