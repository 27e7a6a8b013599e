package cluster

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gravitational/trace"

	"berth/certwatch"
	"berth/internal/simcluster"
)

func startKube(t *testing.T) (*simcluster.Cluster, *Cluster) {
	t.Helper()
	sim := start(t, simcluster.Config{Kubes: []simcluster.Kube{
		{Name: "staging"}, {Name: "prod", Labels: map[string]string{"env": "prod"}},
	}})
	return sim, connect(t, sim, simcluster.WithTTL(time.Hour))
}

func TestKubeClusters(t *testing.T) {
	t.Parallel()
	sim, c := startKube(t)
	got, err := c.KubeClusters(t.Context(), c.Root())
	if err != nil {
		t.Fatal(err)
	}
	want := []KubeCluster{{Name: "prod", Labels: map[string]string{"env": "prod"}}, {Name: "staging"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Kubernetes clusters by name (-want +got):\n%s", diff)
	}
	_, err = c.KubeCluster(t.Context(), c.Root(), "stagin")
	var unknown *UnknownKubeError
	if !errors.As(err, &unknown) || unknown.Similar != "staging" {
		t.Errorf("KubeCluster(stagin) = %v, want UnknownKubeError that suggests staging", err)
	}
	sim.Root().AddKube(simcluster.Kube{Name: "stagin"})
	foundSoon(t, "the Kubernetes cluster", func() error {
		_, err := c.KubeCluster(t.Context(), c.Root(), "stagin")
		return err
	})
}

func TestKubeCert(t *testing.T) {
	sim, c := startKube(t)
	prod := KubeRoute{Cluster: c.Root(), KubeCluster: "prod"}
	cert, err := c.KubeCert(t.Context(), prod)
	if err != nil {
		t.Fatal(err)
	}
	id := certwatch.ParseIdentity(cert.TLS.Leaf.Subject)
	if diff := cmp.Diff([]string{"usage:kube"}, id.Usage); id.KubeCluster != "prod" || diff != "" {
		t.Errorf("cert is for %q with usage %q, want prod and usage:kube", id.KubeCluster, id.Usage)
	}
	if again, err := c.KubeCert(t.Context(), prod); err != nil || again != cert {
		t.Errorf("second KubeCert = %p, %v; want the same cert %p", again, err, cert)
	}
	other, err := c.KubeCert(t.Context(), KubeRoute{Cluster: c.Root(), KubeCluster: "staging"})
	if err != nil || other == cert {
		t.Errorf("KubeCert of another cluster = %p, %v; want one of its own", other, err)
	}
	c.Forget(c.Root(), "prod")
	if again, err := c.KubeCert(t.Context(), prod); err != nil || again == cert {
		t.Errorf("KubeCert after Forget = %p, %v; want a new one", again, err)
	}
	if got := sim.Counters().Mints["kube/prod"]; got != 2 {
		t.Errorf("%d mints for prod, want 2", got)
	}
}

func TestKubeCertErrors(t *testing.T) {
	sim, c := startKube(t)
	var unknown *UnknownKubeError
	if _, err := c.KubeCert(t.Context(), KubeRoute{Cluster: c.Root(), KubeCluster: "nope"}); !errors.As(err, &unknown) {
		t.Errorf("KubeCert of a cluster that is not registered = %v, want UnknownKubeError", err)
	}
	var noCluster *UnknownClusterError
	if _, err := c.KubeCert(t.Context(), KubeRoute{Cluster: "nowhere.test", KubeCluster: "prod"}); !errors.As(err, &noCluster) {
		t.Errorf("KubeCert in an unknown cluster = %v, want UnknownClusterError", err)
	}
	if mfa, err := c.KubeMFARequired(t.Context(), KubeRoute{Cluster: c.Root(), KubeCluster: "prod"}); err != nil || mfa {
		t.Errorf("KubeMFARequired = %v, %v; want false", mfa, err)
	}
	sim.Faults().RPCError("GenerateUserCerts", trace.AccessDenied("no"))
	var denied *AccessDeniedError
	if _, err := c.KubeCert(t.Context(), KubeRoute{Cluster: c.Root(), KubeCluster: "prod"}); !errors.As(err, &denied) {
		t.Errorf("refused KubeCert = %v, want AccessDeniedError", err)
	}
}
