package kubeconfig

import (
	"path/filepath"
	"slices"
	"strings"
)

// Env returns the variables, as KEY=VALUE, by which Kubernetes' clients find the
// kubeconfig in file: client-go and what is built on it, Terraform's and
// OpenTofu's providers, Ansible's modules.
func Env(file string) []string {
	var vars []string
	for _, name := range []string{"KUBECONFIG", "KUBE_CONFIG_PATH", "KUBE_CONFIG", "K8S_AUTH_KUBECONFIG"} {
		vars = append(vars, name+"="+file)
	}
	return vars
}

// ClearEnv returns the variables that clients obey rather than those of Env; one
// that ends with "*" stands for all that begin so. Those that say who to be in
// the cluster are among them: what berth's own tunnel says counts. Editors,
// namespaces and features are not: they lead nowhere.
func ClearEnv() []string {
	return []string{
		// client-go, and clients that believe to run in a cluster
		"KUBERNETES_*", "KUBECONTEXT", "KUBE_CONTEXT", "KUBECTL_CONTEXT",
		// Terraform's and OpenTofu's providers for Kubernetes, Helm and kubectl, and their state in a cluster
		"KUBE_CONFIG_PATHS", "KUBE_CTX*", "KUBE_HOST", "KUBE_TOKEN", "KUBE_USER", "KUBE_PASSWORD", "KUBE_INSECURE",
		"KUBE_TLS_SERVER_NAME", "KUBE_CLIENT_*", "KUBE_CLUSTER_CA_CERT_DATA", "KUBE_PROXY_URL", "KUBE_LOAD_CONFIG_FILE",
		"KUBE_IN_CLUSTER_CONFIG", "KUBE_CONFIG_DATA*", "KUBE_EXEC*",
		// Helm, Ansible, Skaffold, werf, kapp, Argo Workflows, Python's pykube
		"HELM_KUBE*", "K8S_AUTH_*", "SKAFFOLD_KUBE*", "WERF_KUBE*", "NELM_KUBE*", "KAPP_KUBECONFIG*", "ARGO_SERVER", "ARGO_TOKEN",
		"PYKUBE_KUBERNETES_*",
	}
}

// obedient are the programs that are known to obey Env, and lead to Kubernetes only.
var obedient = []string{
	"argo", "calicoctl", "cilium", "cmctl", "flux", "helm", "helmfile", "istioctl", "k3sup", "k9s", "kapp",
	"kn", "krane", "kubecolor", "kubectl", "kubectx", "kubens", "kubent", "kubeseal", "kustomize", "linkerd", "oc",
	"popeye", "skaffold", "stern", "telepresence", "tilt", "velero", "virtctl", "werf",
}

// several are known to obey Env, and have uses without Kubernetes.
var several = []string{"ansible", "ansible-playbook", "opentofu", "pulumi", "terraform", "terragrunt", "tofu"}

// Obeys reports whether the program is known to obey Env.
func Obeys(program string) bool {
	return slices.Contains(several, programName(program)) || IsClient(program)
}

// IsClient reports whether the program is a client of Kubernetes and of nothing else.
func IsClient(program string) bool {
	name := programName(program)
	return slices.Contains(obedient, name) || strings.HasPrefix(name, "kubectl-") // its plugins
}

func programName(program string) string { return strings.TrimSuffix(filepath.Base(program), ".exe") }
