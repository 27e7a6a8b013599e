package cluster

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

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

type kubeList struct {
	at    time.Time
	kubes []KubeCluster
}

// KubeClusters lists the Kubernetes clusters of a Teleport cluster (the root,
// or a leaf) that the session may see, by name. Several services that carry
// the same one are one entry.
func (c *Cluster) KubeClusters(ctx context.Context, clusterName string) ([]KubeCluster, error) {
	return c.listKubes(ctx, clusterName, missTTL)
}

// listKubes is KubeClusters as of maxAge ago at most.
func (c *Cluster) listKubes(ctx context.Context, clusterName string, maxAge time.Duration) ([]KubeCluster, error) {
	c.mu.Lock()
	cached := c.kubes[clusterName]
	c.mu.Unlock()
	if cached.kubes != nil && time.Since(cached.at) < maxAge {
		return cached.kubes, nil
	}
	v, err, _ := c.flight.Do("kubes/"+clusterName, func() (any, error) {
		var servers []types.KubeServer
		err := c.call(context.WithoutCancel(ctx), clusterName, "list Kubernetes clusters of "+clusterName, func(ctx context.Context, clt *client.Client) (err error) {
			servers, err = clt.GetKubernetesServers(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
		list := kubeList{at: time.Now(), kubes: dedupeKubes(servers)}
		c.mu.Lock()
		c.kubes[clusterName] = list
		c.mu.Unlock()
		return list.kubes, nil
	})
	if err != nil {
		return nil, err
	}
	return v.([]KubeCluster), nil
}

func dedupeKubes(servers []types.KubeServer) []KubeCluster {
	byName := make(map[string]KubeCluster, len(servers))
	for _, s := range servers {
		if kube := s.GetCluster(); kube != nil {
			byName[kube.GetName()] = KubeCluster{Name: kube.GetName(), Labels: maps.Clone(kube.GetAllLabels())}
		}
	}
	kubes := slices.AppendSeq(make([]KubeCluster, 0, len(byName)), maps.Values(byName))
	slices.SortFunc(kubes, func(a, b KubeCluster) int { return strings.Compare(a.Name, b.Name) })
	return kubes
}

// KubeCluster returns the named Kubernetes cluster of a Teleport cluster, or
// UnknownKubeError.
func (c *Cluster) KubeCluster(ctx context.Context, clusterName, name string) (KubeCluster, error) {
	named := func(k KubeCluster) bool { return k.Name == name }
	kubes, err := c.listKubes(ctx, clusterName, listTTL)
	if err == nil && !slices.ContainsFunc(kubes, named) {
		kubes, err = c.listKubes(ctx, clusterName, missTTL) // it may have been added since
	}
	if err != nil {
		return KubeCluster{}, err
	}
	i := slices.IndexFunc(kubes, named)
	if i < 0 {
		names := make([]string, len(kubes))
		for i, k := range kubes {
			names[i] = k.Name
		}
		return KubeCluster{}, &UnknownKubeError{Cluster: clusterName, KubeCluster: name, Similar: similar(name, names)}
	}
	return kubes[i], nil
}

// KubeMFARequired reports whether the cluster wants per-session MFA for this
// Kubernetes cluster. Only tsh can answer such a challenge with a security key.
func (c *Cluster) KubeMFARequired(ctx context.Context, r KubeRoute) (bool, error) {
	return c.mfaRequired(ctx, r.Cluster, r.KubeCluster, &proto.IsMFARequiredRequest{
		Target: &proto.IsMFARequiredRequest_KubernetesCluster{KubernetesCluster: r.KubeCluster},
	})
}
