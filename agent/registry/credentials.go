package registry

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"berth/agent/cluster"
	"berth/agent/ipc"
	"berth/agent/sessions"
	"berth/agent/tunnel"
)

// KubeCredentials returns a credential for a Kubernetes cluster, from memory
// whenever there is a valid one. It waits for no login and starts none: who
// asks is a program in a pipe.
func (r *Registry) KubeCredentials(ctx context.Context, clusterName, kubeCluster string) (ipc.KubeCredentials, error) {
	var none ipc.KubeCredentials
	if clusterName == "" {
		name, err := r.DefaultCluster()
		if err != nil {
			return none, err
		}
		clusterName = name
	}
	now := time.Now()
	f := r.cfg.Sessions.Discover(ctx, clusterName, "", now)
	switch {
	case f.Profile == nil && len(r.cfg.Sessions.ValidClusters(now)) == 0:
		return none, r.LoginNeeded(clusterName)
	case f.Profile == nil:
		return none, r.cfg.Tunnels.Word(sessions.ErrNoProfile, clusterName)
	case !f.Valid(now):
		return none, r.cfg.Tunnels.Word(sessions.ErrLoginNeeded, clusterName)
	}
	cert, why, err := r.cfg.Tunnels.KubeCert(ctx, f, clusterName, kubeCluster)
	switch {
	case err != nil:
		return none, r.cfg.Tunnels.Word(err, clusterName)
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
