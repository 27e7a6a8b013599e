package ipc

import (
	"context"
	"time"

	pb "berth/agent/ipc/berthv1"
)

// KubeBackend answers for what kubectl asks.
type KubeBackend interface {
	// KubeCredentials returns a credential for a Kubernetes cluster; an empty
	// cluster means the current profile's.
	KubeCredentials(ctx context.Context, cluster, kubeCluster string) (KubeCredentials, error)
}

// KubeCredentials is a credential for one Kubernetes cluster, and how to reach
// the cluster with it. It is a secret.
type KubeCredentials struct {
	Cert       []byte // PEM
	Key        []byte // PEM
	ValidUntil time.Time
	Server     string // URL
	ServerName string // to ask for in the TLS handshake
	CA         []byte // PEM
}

// String says nothing, as logs do.
func (KubeCredentials) String() string { return "KubeCredentials(secret)" }

// GoString says nothing either.
func (k KubeCredentials) GoString() string { return k.String() }

// KubeCredentials returns a credential for a Kubernetes cluster.
func (s *service) KubeCredentials(
	ctx context.Context, req *pb.KubeCredentialsRequest,
) (*pb.KubeCredentialsResponse, error) {
	k, err := s.backend.Kube.KubeCredentials(ctx, req.GetCluster(), req.GetKubeCluster())
	if err != nil {
		return nil, err
	}
	return ToProto[pb.KubeCredentialsResponse](k), nil
}
