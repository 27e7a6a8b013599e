package ipc

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

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
	return &pb.KubeCredentialsResponse{
		Cert: k.Cert, Key: k.Key, ValidUntil: timestamppb.New(k.ValidUntil),
		Server: utf8(k.Server), ServerName: utf8(k.ServerName), Ca: k.CA,
	}, nil
}
