package faketsh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/teleport/api/utils/keypaths"
	"github.com/gravitational/teleport/api/utils/keys"

	"berth/internal/tshhome"
)

// kubeSlack is how long before its end a kube cert is no longer given out, and
// by how much the end that clients see is earlier than the real one.
const kubeSlack = time.Minute

// errKubeLock is what tsh says for ever after one relogin of an exec plugin
// failed, until someone logs in by hand and the lock file is gone.
var errKubeLock = errors.New("Having problems with relogin, please use 'tsh login/tsh kube login' manually")

// kubes lists the Kubernetes clusters of a cluster, by name.
func (t *tsh) kubes(ctx context.Context, s *session, cluster string) ([]types.KubeCluster, error) {
	clt, err := t.auth(ctx, s, cluster)
	if err != nil {
		return nil, err
	}
	defer clt.Close()
	list, err := client.GetAllResources[types.KubeCluster](ctx, clt,
		&proto.ListResourcesRequest{ResourceType: types.KindKubernetesCluster})
	slices.SortFunc(list, func(a, b types.KubeCluster) int { return strings.Compare(a.GetName(), b.GetName()) })
	return list, err
}

// kubeList is "tsh kube ls".
func (t *tsh) kubeList(ctx context.Context) error {
	s, err := t.load()
	if err != nil {
		return err
	}
	if err := s.need(); err != nil {
		return err
	}
	list, err := t.kubes(ctx, s, t.cluster(s))
	if err != nil {
		return err
	}
	if t.flags["format"] == "json" {
		return t.printKubes(list)
	}
	return t.printKubeTable(list)
}

// printKubeTable prints the list as tsh does: the labels are underlined as far
// as they go.
func (t *tsh) printKubeTable(list []types.KubeCluster) error {
	w := tabwriter.NewWriter(t.stdout, 5, 0, 1, ' ', 0)
	end := ""
	if !t.flags.on("quiet") {
		width := len("Labels")
		for _, k := range list {
			width = max(width, len(labelText(k.GetAllLabels())))
		}
		fmt.Fprintf(w, "Kube Cluster Name\tLabels\tSelected\t\n-----------------\t%s\t--------\t\n", strings.Repeat("-", width))
		end = "\t"
	}
	for _, k := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\n", k.GetName(), labelText(k.GetAllLabels()), end)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(t.stdout)
	return err
}

func labelText(labels map[string]string) string {
	var all []string
	for k, v := range labels {
		all = append(all, k+"="+v)
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}

// printKubes prints the list as JSON; an empty one is no null here.
func (t *tsh) printKubes(list []types.KubeCluster) error {
	type entry struct {
		Name     string            `json:"kube_cluster_name"`
		Labels   map[string]string `json:"labels"`
		Selected bool              `json:"selected"`
	}
	entries := make([]entry, 0, len(list))
	for _, k := range list {
		e := entry{Name: k.GetName(), Labels: k.GetAllLabels()}
		if len(e.Labels) == 0 {
			e.Labels = nil
		}
		entries = append(entries, e)
	}
	out, err := json.MarshalIndent(entries, "", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintln(t.stdout, string(out))
	return nil
}

// kubeCredentials is "tsh kube credentials", the exec plugin.
func (t *tsh) kubeCredentials(ctx context.Context) error {
	kube, cluster := t.flags["kube-cluster"], t.flags["teleport-cluster"]
	switch {
	case kube == "":
		return errors.New("required flag --kube-cluster not provided")
	case cluster == "":
		return errors.New("required flag --teleport-cluster not provided")
	}
	s, err := t.load()
	if err != nil {
		return err
	}
	if s.ssh == nil {
		return errNotLoggedIn
	}
	if pair, err := s.kubePair(cluster, kube); err == nil && time.Until(pair.notAfter) > kubeSlack {
		return t.printExecCredential(pair)
	}
	if !s.valid() {
		if s, err = t.lockedRelogin(ctx, s); err != nil {
			return err
		}
	}
	pair, err := t.kubeCert(ctx, s, cluster, kube)
	if err != nil {
		return err
	}
	if err := s.home.KubeLogin(s.profile, s.creds, cluster, kube, pair.cert, pair.key); err != nil {
		return err
	}
	return t.printExecCredential(pair)
}

// lockedRelogin logs in again under a lock file, which stays if that fails.
func (t *tsh) lockedRelogin(ctx context.Context, s *session) (*session, error) {
	path := keypaths.KubeCredLockfilePath(s.home.Dir, s.profile.Name())
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, errKubeLock
	}
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	fresh, err := t.relogin(ctx, s)
	if err != nil {
		return nil, err
	}
	return fresh, os.Remove(path)
}

// kubePair is a kube cert with its key, both PEM.
type kubePair struct {
	cert, key []byte
	notAfter  time.Time
}

func newKubePair(cert, key []byte) (kubePair, error) {
	pair, err := keys.X509KeyPair(cert, key)
	if err != nil {
		return kubePair{}, err
	}
	leaf, err := parseLeaf(pair)
	if err != nil {
		return kubePair{}, err
	}
	return kubePair{cert, key, leaf.NotAfter}, nil
}

// kubePair reads the cert that an earlier call left in the home.
func (s *session) kubePair(cluster, kube string) (kubePair, error) {
	name, user := s.profile.Name(), s.profile.User
	if s.home.Layout == tshhome.V16 {
		cert, err := os.ReadFile(keypaths.KubeCredentialDir(s.home.Dir, name, user, cluster) + string(os.PathSeparator) +
			kube + keypaths.FileExtTLSCertLegacy)
		if err != nil {
			return kubePair{}, err
		}
		return newKubePair(cert, s.creds.TLSKey)
	}
	content, err := os.ReadFile(keypaths.KubeCredPath(s.home.Dir, name, user, cluster, kube))
	if err != nil {
		return kubePair{}, err
	}
	key, cert, ok := strings.Cut(string(content), "\n\n")
	if !ok {
		return kubePair{}, errors.New("no key and certificate in " + kube)
	}
	return newKubePair([]byte(cert), []byte(key+"\n"))
}

// kubeCert mints a kube cert.
func (t *tsh) kubeCert(ctx context.Context, s *session, cluster, kube string) (kubePair, error) {
	cert, key, err := t.resourceCert(ctx, s, func(r *proto.UserCertsRequest) {
		r.RouteToCluster, r.KubernetesCluster, r.Usage = cluster, kube, proto.UserCertsRequest_Kubernetes
		r.RequesterName = proto.UserCertsRequest_TSH_KUBE_LOCAL_PROXY
	})
	if err != nil {
		return kubePair{}, err
	}
	return newKubePair(cert, key)
}

// printExecCredential tells kubectl the pair, and that it ends a little
// earlier than it does.
func (t *tsh) printExecCredential(pair kubePair) error {
	end := pair.notAfter
	if time.Until(end) > kubeSlack {
		end = end.Add(-kubeSlack)
	}
	out, err := json.Marshal(map[string]any{
		"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1beta1",
		"spec": map[string]any{"interactive": false},
		"status": map[string]any{
			"expirationTimestamp": end.UTC().Format(time.RFC3339), "clientCertificateData": string(pair.cert),
			"clientKeyData": string(pair.key),
		},
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(t.stdout, string(out))
	return nil
}
