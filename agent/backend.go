package agent

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"berth/agent/cluster"
	"berth/agent/ipc"
	"berth/agent/registry"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tunnel"
)

// The methods below answer at the control socket what commands and the tray ask of the
// agent itself; what they ask about tunnels, agent/registry answers.

// ReloadConfig reads the config file now and applies it, instead of waiting
// for the file watcher to notice.
func (a *Agent) ReloadConfig(ctx context.Context) error {
	loaded := a.config.Reload()
	a.applyConfig()
	a.kube.Settled(ctx)
	a.publish()
	if loaded.Err != nil {
		return registry.Word(loaded.Err)
	}
	return nil
}

// Shutdown asks the agent to close its ports, drain and exit.
func (a *Agent) Shutdown() {
	a.next.forGood.Store(true)
	a.stop()
}

// HandOver starts a successor and returns when that serves. Env is put over this
// process's environment. An error means that nothing has changed.
func (a *Agent) HandOver(ctx context.Context, program string, env []string) (ipc.Successor, error) {
	return a.next.ask(ctx, program, env)
}

// LocalCA returns the certificate of the local CA.
func (a *Agent) LocalCA(ctx context.Context) (ipc.LocalCA, error) {
	ca, err := a.kube.CACert(ctx)
	if err != nil {
		return ipc.LocalCA{}, &ipc.Error{
			Code: ipc.CodeFailed, Message: fmt.Sprintf("there is no local CA: %v", err), Hint: "berth doctor",
		}
	}
	return ipc.LocalCA{Path: ca.Path, PEM: ca.PEM, ValidUntil: ca.ValidUntil}, nil
}

// KubeCredentials returns a credential for a Kubernetes cluster, from memory
// whenever there is a valid one. It waits for no login and starts none: who
// asks is a program in a pipe.
func (a *Agent) KubeCredentials(ctx context.Context, clusterName, kubeCluster string) (ipc.KubeCredentials, error) {
	var none ipc.KubeCredentials
	if clusterName == "" {
		name, err := a.DefaultCluster()
		if err != nil {
			return none, err
		}
		clusterName = name
	}
	now := time.Now()
	f := a.sessions.Discover(ctx, clusterName, "", now)
	switch {
	case f.Profile == nil && len(a.sessions.ValidClusters(now)) == 0:
		return none, a.LoginNeeded(clusterName)
	case f.Profile == nil:
		return none, a.tunnels.Word(sessions.ErrNoProfile, clusterName)
	case !f.Valid(now):
		return none, a.tunnels.Word(sessions.ErrLoginNeeded, clusterName)
	}
	cert, why, err := a.tunnels.KubeCert(ctx, f, clusterName, kubeCluster)
	switch {
	case err != nil:
		return none, a.tunnels.Word(err, clusterName)
	case why != "":
		return none, &ipc.Error{
			Code: ipc.CodeUnsupported, Message: fmt.Sprintf("berth cannot give out a credential for %s: %s", kubeCluster, why),
			Hint: fmt.Sprintf("use a tunnel: berth tunnel add kube NAME --resource %s --cluster %s", kubeCluster, clusterName),
		}
	}
	return credentialsOf(f, cert)
}

// credentialsOf puts a cert into the form that other programs read.
func credentialsOf(f sessions.Session, cert *cluster.Cert) (ipc.KubeCredentials, error) {
	serverName, err := tunnel.KubeServerName(f.Profile.ProxyAddr)
	if err != nil {
		return ipc.KubeCredentials{}, fmt.Errorf("profile %s: proxy address: %w", f.Profile.Name, err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.TLS.PrivateKey)
	if err != nil {
		return ipc.KubeCredentials{}, fmt.Errorf("encode key: %w", err)
	}
	k := ipc.KubeCredentials{
		Key:        pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		ValidUntil: cert.ValidUntil(), Server: "https://" + f.Profile.ProxyAddr,
		ServerName: serverName,
	}
	for _, der := range cert.TLS.Certificate {
		k.Cert = append(k.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	for _, ca := range f.Profile.Session.CAs[f.Cluster.Root()] {
		k.CA = append(k.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})...)
	}
	return k, nil
}

// Snapshot returns what was published last. It must not be changed.
func (a *Agent) Snapshot() *state.Snapshot { return a.pub.hub.cur.Load() }

// Subscribe returns a channel that receives after each newer snapshot, and the
// function that ends the subscription.
func (a *Agent) Subscribe() (<-chan struct{}, func()) {
	ch, cancel := a.pub.hub.followers.Subscribe()
	a.touch() // the loop may be in its idle sleep; watchers want counters
	a.pub.hurry.Wake()
	return ch, cancel
}

// DismissNotice takes a notice off the screen for good.
func (a *Agent) DismissNotice(_ context.Context, id string) error {
	a.pub.mu.Lock()
	known := a.pub.tracker != nil && a.pub.tracker.Dismiss(id)
	a.pub.mu.Unlock()
	if !known {
		return &ipc.Error{Code: ipc.CodeNotFound, Message: fmt.Sprintf("there is no longer a notice %q", id)}
	}
	a.publish()
	return nil
}
