package client

import (
	"context"

	"berth/agent/ipc"
	pb "berth/agent/ipc/berthv1"
)

// KubeCredentials is a credential for one Kubernetes cluster, and how to reach
// the cluster with it. It is a secret.
type KubeCredentials = ipc.KubeCredentials

// KubeCredentials asks for a credential for a Kubernetes cluster. An empty
// cluster means the current profile's. It is only for the command that prints
// it.
func (c *Client) KubeCredentials(ctx context.Context, cluster, kubeCluster string) (KubeCredentials, error) {
	req := &pb.KubeCredentialsRequest{Cluster: cluster, KubeCluster: kubeCluster}
	resp, err := call(ctx, c, readTimeout, req, pb.AgentClient.KubeCredentials)
	if err != nil {
		return KubeCredentials{}, err
	}
	return ipc.FromProto[KubeCredentials](resp), nil
}

// LocalCA is the certificate of this machine's own authority.
type LocalCA = ipc.LocalCA

// LocalCA asks for the certificate that clients trust which speak TLS with a
// tunnel.
func (c *Client) LocalCA(ctx context.Context) (LocalCA, error) {
	resp, err := call(ctx, c, readTimeout, &pb.LocalCARequest{}, pb.AgentClient.LocalCA)
	if err != nil {
		return LocalCA{}, err
	}
	return ipc.FromProto[LocalCA](resp), nil
}
