package tsh

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"
)

// accessWait is how long a child that listens may take to write its
// kubeconfig, which it does right after.
const accessWait = 5 * time.Second

// kubeAccess is how clients reach a "tsh proxy kube": through the HTTP forward
// proxy it listens as, to a TLS listener that admits its own throw-away client.
type kubeAccess struct {
	server string // host:port, as the forward proxy is asked for
	tls    *tls.Config
}

// kubeArgs are the arguments of the child that listens on port.
func (cfg *DBTunnelConfig) kubeArgs(port int) []string {
	args := []string{"proxy", "kube", "--port=" + strconv.Itoa(port)}
	for _, f := range []struct{ flag, value string }{{"--cluster=", cfg.Cluster}, {"--proxy=", cfg.Proxy}} {
		if f.value != "" {
			args = append(args, f.flag+f.value)
		}
	}
	if cfg.Insecure {
		args = append(args, "--insecure")
	}
	return append(args, cfg.Kube)
}

// kubeconfigOf is where the child on port writes its kubeconfig: one for each,
// since a child that ends removes its own.
func (cfg *DBTunnelConfig) kubeconfigOf(port int) string {
	return cfg.Kubeconfig + "." + strconv.Itoa(port)
}

// awaitAccess reads the child's kubeconfig once it is there.
func (c *child) awaitAccess(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, accessWait)
	defer cancel()
	for {
		access, err := readAccess(path)
		if err == nil {
			c.access = access
			return nil
		}
		select {
		case <-c.proc.done:
			return c.exitError()
		case <-ctx.Done():
			return fmt.Errorf("tsh wrote no kubeconfig that berth understands: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tshKubeconfig is what is needed of the kubeconfig that tsh writes, which has
// one cluster and one user.
type tshKubeconfig struct {
	Clusters []struct {
		Cluster struct {
			Server     string `yaml:"server"`
			ServerName string `yaml:"tls-server-name"`
			CA         string `yaml:"certificate-authority-data"`
		} `yaml:"cluster"`
	} `yaml:"clusters"`
	Users []struct {
		User struct {
			Cert string `yaml:"client-certificate-data"`
			Key  string `yaml:"client-key-data"`
		} `yaml:"user"`
	} `yaml:"users"`
}

func readAccess(path string) (*kubeAccess, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file tshKubeconfig
	if err := yaml.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("kubeconfig of tsh: %w", err)
	}
	if len(file.Clusters) != 1 || len(file.Users) != 1 {
		return nil, errors.New("kubeconfig of tsh: it has not one cluster and one user")
	}
	cluster, user := file.Clusters[0].Cluster, file.Users[0].User
	server, err := url.Parse(cluster.Server)
	if err != nil || server.Host == "" {
		return nil, fmt.Errorf("kubeconfig of tsh: server %q", cluster.Server)
	}
	ca, err1 := base64.StdEncoding.DecodeString(cluster.CA)
	certPEM, err2 := base64.StdEncoding.DecodeString(user.Cert)
	keyPEM, err3 := base64.StdEncoding.DecodeString(user.Key)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("kubeconfig of tsh: %w", err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig of tsh: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("kubeconfig of tsh: there is no CA in it")
	}
	host := server.Host
	if server.Port() == "" {
		host = net.JoinHostPort(server.Hostname(), "443")
	}
	return &kubeAccess{server: host, tls: &tls.Config{
		ServerName: cluster.ServerName, RootCAs: roots, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12,
	}}, nil
}

// DialKube opens a TLS connection to the Kubernetes cluster through the child,
// offering these versions of HTTP. It waits as Dial does.
func (t *DBTunnel) DialKube(ctx context.Context, versions ...string) (net.Conn, error) {
	c, err := t.acquire(ctx)
	if err != nil {
		return nil, err
	}
	release := sync.OnceFunc(func() { t.release(c) })
	if c.access == nil {
		release()
		return nil, errors.New("dial tsh: it does not lead to Kubernetes")
	}
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp4", c.address())
	if err != nil {
		release()
		return nil, fmt.Errorf("dial tsh: %w", err)
	}
	tcp := &childConn{TCPConn: raw.(*net.TCPConn), release: release}
	conn, err := c.access.connect(ctx, tcp, versions)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dial tsh: %w", err), tcp.Close())
	}
	return conn, nil
}

// connect goes through the forward proxy and then speaks TLS.
func (a *kubeAccess) connect(ctx context.Context, conn net.Conn, versions []string) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: a.server}, Host: a.server, Header: make(http.Header)}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 1<<10), req) // nothing follows until TLS begins
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close() // it has none
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("its forward proxy says %s", resp.Status)
	}
	cfg := a.tls.Clone()
	cfg.NextProtos = versions
	tlsConn := tls.Client(conn, cfg)
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	return tlsConn, nil
}
