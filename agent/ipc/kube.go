package ipc

import (
	"context"
	"time"

	pb "berth/agent/ipc/berthv1"
)

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
	k, err := s.backend.KubeCredentials(ctx, req.GetCluster(), req.GetKubeCluster())
	if err != nil {
		return nil, err
	}
	return ToProto[pb.KubeCredentialsResponse](k), nil
}
