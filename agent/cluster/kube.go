package cluster

import (
	"context"
	"maps"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
)

// KubeCluster is a Kubernetes cluster the Teleport cluster offers to this user.
type KubeCluster struct {
	Name   string
	Labels map[string]string
}

// KubeRoute says what a Kubernetes cert is for. It is comparable: two tunnels
// with the same route share one cert.
type KubeRoute struct {
	Cluster     string // the Teleport cluster: root or leaf
	KubeCluster string // the Kubernetes cluster's name in Teleport
	Requests    string // as in DBRoute
}

func (r KubeRoute) resource() (clusterName, name string) { return r.Cluster, r.KubeCluster }

func (r KubeRoute) what() string { return "Kubernetes cluster" }

func (r KubeRoute) fill(req *proto.UserCertsRequest) {
	req.KubernetesCluster = r.KubeCluster
	req.AccessRequests = splitIDs(r.Requests)
	req.Usage = proto.UserCertsRequest_Kubernetes
	req.RequesterName = proto.UserCertsRequest_TSH_KUBE_LOCAL_PROXY // as in DBRoute.fill
}

// KubeCert returns a cert for the route that is valid now, by the same rules
// as DBCert. A Kubernetes cluster that Teleport does not know is refused with
// an UnknownKubeError; one this user may not use is minted for, and refused
// when it is connected to.
func (c *Cluster) KubeCert(ctx context.Context, r KubeRoute) (*Cert, error) { return c.cert(ctx, r) }

func kubes() *listing[KubeCluster] {
	return &listing[KubeCluster]{
		kind: "Kubernetes clusters", name: func(k KubeCluster) string { return k.Name },
		fetch: func(ctx context.Context, clt *client.Client) ([]KubeCluster, error) {
			servers, err := resourcePages[types.KubeServer](ctx, clt, "Kubernetes clusters", types.KindKubeServer)
			list := make([]KubeCluster, 0, len(servers))
			for _, s := range servers {
				if k := s.GetCluster(); k != nil {
					list = append(list, KubeCluster{Name: k.GetName(), Labels: maps.Clone(k.GetAllLabels())})
				}
			}
			return list, err
		},
	}
}

// KubeClusters lists the Kubernetes clusters of a Teleport cluster (the root,
// or a leaf) that the session may see, by name. Several services that carry
// the same one are one entry.
func (c *Cluster) KubeClusters(ctx context.Context, clusterName string) ([]KubeCluster, error) {
	return c.kubes.all(ctx, c, clusterName, missTTL)
}

// KubeCluster returns the named Kubernetes cluster of a Teleport cluster, or
// UnknownKubeError.
func (c *Cluster) KubeCluster(ctx context.Context, clusterName, name string) (KubeCluster, error) {
	k, like, ok, err := c.kubes.one(ctx, c, clusterName, name)
	if err == nil && !ok {
		err = &UnknownKubeError{Cluster: clusterName, KubeCluster: name, Similar: like}
	}
	return k, err
}

// KubeMFARequired reports whether the cluster wants per-session MFA for this
// Kubernetes cluster; see Factors for what meets it.
func (c *Cluster) KubeMFARequired(ctx context.Context, r KubeRoute) (bool, error) {
	return c.mfaRequired(ctx, r.Cluster, r.KubeCluster, &proto.IsMFARequiredRequest{
		Target: &proto.IsMFARequiredRequest_KubernetesCluster{KubernetesCluster: r.KubeCluster},
	})
}
