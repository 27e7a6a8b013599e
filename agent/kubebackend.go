package agent

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"berth/agent/cluster"
	"berth/agent/ipc"
	"berth/agent/sessions"
	"berth/agent/state"
)

// kubeClusters lists the Kubernetes clusters a Teleport cluster offers.
func (a *Agent) kubeClusters(ctx context.Context, clusterName string, now time.Time) ([]ipc.Resource, error) {
	f := a.sessions.Discover(ctx, clusterName, now)
	if f.Profile == nil {
		return nil, sessions.ErrNoProfile
	}
	if !f.Valid(now) || f.Cluster == nil {
		return nil, sessions.ErrLoginNeeded
	}
	kubes, err := f.Cluster.KubeClusters(ctx, clusterName)
	if err != nil {
		return nil, err
	}
	list := make([]ipc.Resource, 0, len(kubes))
	for _, k := range kubes {
		list = append(list, ipc.Resource{
			Name: k.Name, Kind: state.KindKube, Labels: k.Labels, Cluster: clusterName,
			Tunnel: a.tunnelTo(state.KindKube, clusterName, k.Name),
		})
	}
	return list, nil
}

// KubeCredentials returns a credential for a Kubernetes cluster, from memory
// whenever there is a valid one. It waits for no login and starts none: who
// asks is a program in a pipe.
func (a *Agent) KubeCredentials(ctx context.Context, clusterName, kubeCluster string) (ipc.KubeCredentials, error) {
	var none ipc.KubeCredentials
	if clusterName == "" {
		name, err := a.defaultCluster()
		if err != nil {
			return none, err
		}
		clusterName = name
	}
	now := time.Now()
	f := a.sessions.Discover(ctx, clusterName, now)
	switch {
	case f.Profile == nil && len(a.sessions.ValidClusters(now)) == 0:
		return none, a.loginNeeded(clusterName)
	case f.Profile == nil:
		return none, a.toIPC(sessions.ErrNoProfile, clusterName)
	case !f.Valid(now):
		return none, a.toIPC(sessions.ErrLoginNeeded, clusterName)
	}
	spec := state.TunnelSpec{Kind: state.KindKube, Cluster: clusterName, Resource: kubeCluster}
	why, err := a.resolver.kubeNeedsTSH(ctx, spec, f)
	if err != nil {
		return none, a.toIPC(err, clusterName)
	}
	if why != "" {
		return none, &ipc.Error{
			Code: ipc.CodeUnsupported, Message: fmt.Sprintf("berth cannot give out a credential for %s: %s", kubeCluster, why),
			Hint: fmt.Sprintf("use a tunnel: berth tunnel add kube NAME --resource %s --cluster %s", kubeCluster, clusterName),
		}
	}
	cert, err := f.Cluster.KubeCert(ctx, cluster.KubeRoute{Cluster: clusterName, KubeCluster: kubeCluster})
	if cert == nil {
		return none, a.toIPC(err, clusterName)
	}
	return credentialsOf(f, cert)
}

// credentialsOf puts a cert into the form that other programs read.
func credentialsOf(f sessions.Session, cert *cluster.Cert) (ipc.KubeCredentials, error) {
	serverName, err := kubeServerName(f.Profile.ProxyAddr)
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
