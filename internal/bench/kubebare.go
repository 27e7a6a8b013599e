package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"

	"berth/agent/ipc/client"
)

// bareEnv makes this program the least that a proxy can be: the standard
// library's reverse proxy between two HTTP/2 connections over TLS.
const bareEnv = "BERTH_BENCH_BARE"

// bareTask is the task that the process reads from its standard input.
type bareTask struct {
	Server, ServerName string
	Cert, Key, CA      []byte
}

// bareAddr is where the process listens, its answer.
type bareAddr struct {
	Addr string
	Cert []byte
}

// bareClient is a client of such a process.
type bareClient struct {
	apiClient
	pid int
}

// bare starts one in front of a Kubernetes cluster.
func (a *kubeAgent) bare(ctx context.Context, cluster, kube string) (_ bareClient, stop func(), err error) {
	c := client.Dial(a.socket)
	defer c.Close()
	k, err := c.KubeCredentials(ctx, cluster, kube)
	if err != nil {
		return bareClient{}, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return bareClient{}, nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env, cmd.Stderr = append(os.Environ(), bareEnv+"=1"), os.Stderr
	in, err := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err, err2); err != nil {
		return bareClient{}, nil, err
	}
	if err := cmd.Start(); err != nil {
		return bareClient{}, nil, err
	}
	stop = func() {
		_ = in.Close() // it ends with its input
		_ = cmd.Wait()
	}
	var at bareAddr
	err = json.NewEncoder(in).Encode(bareTask{Server: k.Server, ServerName: k.ServerName, Cert: k.Cert, Key: k.Key, CA: k.CA})
	if err = errors.Join(err, json.NewDecoder(out).Decode(&at)); err != nil {
		stop()
		return bareClient{}, nil, fmt.Errorf("start a bare proxy: %w", err)
	}
	roots := x509.NewCertPool()
	cert, err := x509.ParseCertificate(at.Cert)
	if err != nil {
		stop()
		return bareClient{}, nil, err
	}
	roots.AddCert(cert)
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: "example.com"}
	return bareClient{newAPIClient("bare", "https://"+at.Addr, cfg), cmd.Process.Pid}, stop, nil
}

// runBare is that process.
func runBare(in io.Reader, out io.Writer) error {
	var task bareTask
	decoder := json.NewDecoder(in)
	if err := decoder.Decode(&task); err != nil {
		return err
	}
	cert, err := tls.X509KeyPair(task.Cert, task.Key)
	if err != nil {
		return err
	}
	to, err := url.Parse(task.Server)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(task.CA)
	s := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) { pr.SetURL(to) },
		Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, RootCAs: roots, ServerName: task.ServerName,
		}},
	})
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	if err := json.NewEncoder(out).Encode(bareAddr{Addr: s.Listener.Addr().(*net.TCPAddr).String(), Cert: s.Certificate().Raw}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in) // until the runner ends
	return err
}
