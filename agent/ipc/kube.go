package ipc

import (
	"context"
	"time"

	pb "berth/agent/ipc/berthv1"
)

// KubeBackend answers for what kubectl asks, and for the local CA.
type KubeBackend interface {
	// KubeCredentials returns a credential for a Kubernetes cluster; an empty
	// cluster means the current profile's.
	KubeCredentials(ctx context.Context, cluster, kubeCluster string) (KubeCredentials, error)
	// LocalCA returns the certificate of the local CA.
	LocalCA(ctx context.Context) (LocalCA, error)
}

// LocalCA is the certificate of this machine's own authority. It is no secret.
type LocalCA struct {
	Path       string // of a file that has it
	PEM        []byte
	ValidUntil time.Time
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

func (s *service) KubeCredentials(
	ctx context.Context, req *pb.KubeCredentialsRequest,
) (*pb.KubeCredentialsResponse, error) {
	k, err := s.backend.Kube.KubeCredentials(ctx, req.GetCluster(), req.GetKubeCluster())
	if err != nil {
		return nil, err
	}
	return ToProto[pb.KubeCredentialsResponse](k), nil
}

func (s *service) LocalCA(ctx context.Context, _ *pb.LocalCARequest) (*pb.LocalCAResponse, error) {
	ca, err := s.backend.Kube.LocalCA(ctx)
	if err != nil {
		return nil, err
	}
	return ToProto[pb.LocalCAResponse](ca), nil
}
