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
	"time"

	"go.yaml.in/yaml/v3"
)

// KubeCluster is a tunnel to a Kubernetes cluster: its child is a "tsh proxy
// kube".
type KubeCluster struct {
	Name string // required
	// Kubeconfig begins the names of the files that children write their
	// kubeconfigs to, for berth alone to read; it must lie in a folder that no
	// other user can enter. Required.
	Kubeconfig string
}

func (k KubeCluster) name() string { return k.Name }

func (k KubeCluster) check() error {
	if k.Kubeconfig == "" {
		return errors.New("no file for the kubeconfig")
	}
	return nil
}

func (k KubeCluster) args(port int) []string {
	return []string{"proxy", "kube", "--port=" + strconv.Itoa(port)}
}

func (k KubeCluster) env(port int) []string { return []string{"TELEPORT_KUBECONFIG=" + k.file(port)} }

// file is where the child on port writes its kubeconfig: one for each, since a
// child that ends removes its own.
func (k KubeCluster) file(port int) string { return k.Kubeconfig + "." + strconv.Itoa(port) }

func (k KubeCluster) reach(port int) (connect, error) {
	access, err := readAccess(k.file(port))
	if err != nil {
		return nil, fmt.Errorf("tsh wrote no kubeconfig that berth understands: %w", err)
	}
	return access.connect, nil
}

// transparent reports false: tsh itself speaks TLS and HTTP/2, and each request may wait.
func (k KubeCluster) transparent() bool { return false }

// clean removes the kubeconfig that a killed tsh has left.
func (k KubeCluster) clean(port int) { _ = os.Remove(k.file(port)) }

// kubeAccess is how clients reach a "tsh proxy kube": through the HTTP forward
// proxy it listens as, to a TLS listener that admits its own throw-away client.
type kubeAccess struct {
	server string // host:port, as the forward proxy is asked for
	tls    *tls.Config
}

// tshKubeconfig holds the needed part of the kubeconfig that tsh writes, which has
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

// connect goes through the forward proxy on conn and then speaks TLS.
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
