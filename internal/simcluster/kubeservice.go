package simcluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gravitational/teleport/api/types"

	"berth/certwatch"
	"berth/internal/simcluster/simkube"
)

// The headers by which Teleport's Kubernetes service acts for a user.
const (
	impersonateUser  = "Impersonate-User"
	impersonateGroup = "Impersonate-Group"
)

// impersonationDenied begins the refusal of a user or group that the client
// may not ask for.
const impersonationDenied = "impersonation request has been denied"

// kubeError is a refusal of the Kubernetes service.
type kubeError struct {
	code    int
	reason  string
	message string
}

// Error returns the message.
func (e *kubeError) Error() string { return e.message }

func kubeForbidden(format string, args ...any) error {
	return &kubeError{http.StatusForbidden, "Forbidden", fmt.Sprintf(format, args...)}
}

func kubeNotFound(format string, args ...any) error {
	return &kubeError{http.StatusNotFound, "NotFound", fmt.Sprintf(format, args...)}
}

// kubeEndpoint is the Kubernetes endpoint of the proxy, and the Kubernetes
// services behind it.
type kubeEndpoint struct{ c *Cluster }

type kubeIdentityKey struct{}

// ServeHTTP passes a request on to the cluster that its client cert is for,
// in the name of who the cert says it is.
func (k kubeEndpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	who, err := callerOf(*r.TLS)
	if err != nil {
		k.refuse(w, r, kubeForbidden("[00] access denied"))
		return
	}
	kube, site, err := k.c.routedKube(who.identity)
	if err == nil && k.c.refusalOf(who.identity.User) != nil {
		err = kubeForbidden("access denied")
	}
	if err != nil {
		k.refuse(w, r, err)
		return
	}
	key := KubeKey(site.key(kube.Name))
	raw := rawConn(r)
	if raw != nil {
		raw.target.Store(&key)
		if !k.c.faults.holdAfterTLS(r.Context(), raw, &key) {
			panic(http.ErrAbortHandler) // the service is gone
		}
	}
	if err := k.c.authorizeKube(who.identity, site, kube, r.Header); err != nil {
		k.refuse(w, r, err)
		return
	}
	k.c.counters.kubeAsked(site.key(kube.Name))
	ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), kubeIdentityKey{}, who.identity))
	defer cancel(nil)
	k.endWithCert(ctx, who, func() { cancel(errCertEnded) })
	k.handler(kube).ServeHTTP(w, r.WithContext(ctx))
	if errors.Is(context.Cause(ctx), errCertEnded) && r.Header.Get("Upgrade") == "" {
		panic(http.ErrAbortHandler) // what was being answered is cut off
	}
}

var errCertEnded = errors.New("the cert ended")

// endWithCert calls end the second the cert ends, if a role or the cluster
// says that connections do not outlive it.
func (k kubeEndpoint) endWithCert(ctx context.Context, who caller, end func()) {
	if !k.c.disconnectsExpired(who) {
		return
	}
	k.c.spawn(func() {
		if k.c.ends(ctx, who.cert.notAfter) {
			end()
		}
	})
}

func (k kubeEndpoint) handler(kube Kube) http.Handler {
	if k.c.cfg.KubeHandler != nil {
		return k.c.cfg.KubeHandler
	}
	return kube.Handler
}

// refuse tells a client why, as a Status object; for its version alone the
// proxy has a plainer way.
func (k kubeEndpoint) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var e *kubeError
	switch {
	case r.URL.Path == "/version":
		http.Error(w, err.Error(), http.StatusInternalServerError)
	case errors.As(err, &e):
		simkube.WriteStatus(w, e.code, e.reason, e.message)
	default:
		simkube.WriteStatus(w, http.StatusInternalServerError, "InternalError", err.Error())
	}
}

// KubeIdentity returns who made a request that a Kubernetes handler was given.
func KubeIdentity(r *http.Request) certwatch.Identity {
	id, _ := r.Context().Value(kubeIdentityKey{}).(certwatch.Identity)
	return id
}

// KubeKey is the name by which Faults knows a Kubernetes cluster; that of a
// leaf is given as "leaf/name".
func KubeKey(name string) string { return "kube/" + name }

// routedKube returns the Kubernetes cluster an identity is routed to.
func (c *Cluster) routedKube(id certwatch.Identity) (Kube, *Site, error) {
	site := c.root
	if id.RouteToCluster != "" {
		if site = c.site(id.RouteToCluster); site == nil {
			return Kube{}, nil, kubeNotFound("cluster %s not found", id.RouteToCluster)
		}
	}
	kube, ok := site.kube(id.KubeCluster)
	if !ok {
		return Kube{}, nil, kubeNotFound("Kubernetes cluster %q not found", id.KubeCluster)
	}
	return kube, site, nil
}

// allowsKube reports whether the role allows the Kubernetes cluster.
func (r Role) allowsKube(kube Kube) bool {
	if r.NoKubes {
		return false
	}
	for key, values := range r.KubeLabels {
		if !slices.Contains(values, "*") && !slices.Contains(values, kube.Labels[key]) {
			return false
		}
	}
	return true
}

// authorizeKube decides whether an identity may use a Kubernetes cluster, and
// writes into the header who it is to be there.
func (c *Cluster) authorizeKube(id certwatch.Identity, site *Site, kube Kube, h http.Header) error {
	var users, groups []string
	allowed := false
	for _, r := range c.userRoles(id.Roles) {
		if !r.allowsKube(kube) {
			continue
		}
		allowed = true
		for _, u := range r.KubeUsers {
			users = appendNew(users, u)
		}
		for _, g := range r.KubeGroups {
			groups = appendNew(groups, g)
		}
	}
	switch {
	case !allowed, !site.reaches(id, types.KindKubernetesCluster, kube.Name), id.MFADeviceID == "" && c.kubeMFARequired(id.Roles, kube):
		return kubeForbidden("kubernetes cluster %q not found", kube.Name) // as for a cluster that does not exist
	case len(users)+len(groups) == 0:
		return kubeNotFound("Your user's Teleport role does not allow Kubernetes access." +
			" Please ask cluster administrator to ensure your role has appropriate kubernetes_groups and kubernetes_users set.")
	case len(users) == 0:
		users = []string{id.User}
	}
	return impersonate(h, users, appendNew(groups, "system:authenticated"))
}

// impersonate replaces the client's wish of whom to be by what it may be.
func impersonate(h http.Header, users, groups []string) error {
	var user string
	for name, values := range h {
		switch {
		case name == impersonateUser && len(values) == 1:
			user = values[0]
		case name == impersonateUser:
			return kubeForbidden("%s, invalid user header %q", impersonationDenied, values)
		case name == impersonateGroup:
		case strings.HasPrefix(name, "Impersonate-"):
			return kubeForbidden("%s, unsupported impersonation header %q", impersonationDenied, name)
		}
	}
	switch {
	case user != "" && !slices.Contains(users, user):
		return kubeForbidden("%s, user header %q is not allowed in roles", impersonationDenied, user)
	case user == "" && len(users) > 1:
		return kubeForbidden("please select a user to impersonate, refusing to select a user due to several kubernetes_users " +
			"set up for this user")
	case user == "":
		user = users[0]
	}
	wanted := h.Values(impersonateGroup)
	for _, g := range wanted {
		if !slices.Contains(groups, g) {
			return kubeForbidden("%s, group header %q value is not allowed in roles", impersonationDenied, g)
		}
	}
	if len(wanted) > 0 {
		groups = slices.Clone(wanted)
	}
	h.Set(impersonateUser, user)
	h.Del(impersonateGroup)
	for _, g := range groups {
		h.Add(impersonateGroup, g)
	}
	return nil
}

// kubeMFARequired reports whether a role that allows the Kubernetes cluster
// wants per-session MFA.
func (c *Cluster) kubeMFARequired(roles []string, kube Kube) bool {
	return slices.ContainsFunc(c.userRoles(roles), func(r Role) bool { return r.RequireSessionMFA && r.allowsKube(kube) })
}
