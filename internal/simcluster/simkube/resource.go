package simkube

// resource is a kind of object that is served.
type resource struct {
	group, version string
	plural         string
	singular       string
	kind           string
	short          []string
	categories     []string
	namespaced     bool
	subresources   []string
	columns        []column
}

func (r *resource) groupVersion() string {
	if r.group == "" {
		return r.version
	}
	return r.group + "/" + r.version
}

// qualified is the name that messages have.
func (r *resource) qualified() string {
	if r.group == "" {
		return r.plural
	}
	return r.plural + "." + r.group
}

// prefix is where the resource's group and version are served.
func (r *resource) prefix() string {
	if r.group == "" {
		return "/api/" + r.version
	}
	return "/apis/" + r.groupVersion()
}

// The resources that are served.
var (
	namespaces = &resource{
		version: "v1", plural: "namespaces", singular: "namespace", kind: "Namespace", short: []string{"ns"},
		subresources: []string{"status"},
		columns:      []column{nameColumn, {"Status", "string", 0, field("status", "phase")}, ageColumn},
	}
	nodes = &resource{
		version: "v1", plural: "nodes", singular: "node", kind: "Node", short: []string{"no"},
		subresources: []string{"status"},
		columns: []column{
			nameColumn, {"Status", "string", 0, constant("Ready")}, {"Roles", "string", 0, constant("<none>")}, ageColumn,
			{"Version", "string", 0, field("status", "nodeInfo", "kubeletVersion")},
		},
	}
	pods = &resource{
		version: "v1", plural: "pods", singular: "pod", kind: "Pod", short: []string{"po"},
		categories: []string{"all"}, namespaced: true,
		subresources: []string{"status", "log", "exec", "attach", "portforward"},
		columns: []column{
			nameColumn, {"Ready", "string", 0, podReady}, {"Status", "string", 0, field("status", "phase")},
			{"Restarts", "string", 0, podRestarts}, ageColumn,
			{"IP", "string", 1, field("status", "podIP")}, {"Node", "string", 1, field("spec", "nodeName")},
			{"Nominated Node", "string", 1, constant("<none>")}, {"Readiness Gates", "string", 1, constant("<none>")},
		},
	}
	services = &resource{
		version: "v1", plural: "services", singular: "service", kind: "Service", short: []string{"svc"},
		categories: []string{"all"}, namespaced: true, subresources: []string{"status"},
		columns: []column{
			nameColumn, {"Type", "string", 0, field("spec", "type")}, {"Cluster-IP", "string", 0, field("spec", "clusterIP")},
			{"External-IP", "string", 0, constant("<none>")}, {"Port(s)", "string", 0, servicePorts}, ageColumn,
		},
	}
	configMaps = &resource{
		version: "v1", plural: "configmaps", singular: "configmap", kind: "ConfigMap", short: []string{"cm"}, namespaced: true,
		columns: []column{nameColumn, {"Data", "integer", 0, dataCount}, ageColumn},
	}
	secrets = &resource{
		version: "v1", plural: "secrets", singular: "secret", kind: "Secret", namespaced: true,
		columns: []column{
			nameColumn, {"Type", "string", 0, field("type")}, {"Data", "integer", 0, dataCount}, ageColumn,
		},
	}
	serviceAccounts = &resource{
		version: "v1", plural: "serviceaccounts", singular: "serviceaccount", kind: "ServiceAccount", short: []string{"sa"},
		namespaced: true,
		columns:    []column{nameColumn, {"Secrets", "integer", 0, func(object) any { return 0 }}, ageColumn},
	}
	events = &resource{
		version: "v1", plural: "events", singular: "event", kind: "Event", short: []string{"ev"}, namespaced: true,
		columns: []column{
			{"Last Seen", "string", 0, age}, {"Type", "string", 0, field("type")}, {"Reason", "string", 0, field("reason")},
			{"Object", "string", 0, field("involvedObject", "name")}, {"Message", "string", 0, field("message")},
		},
	}
	deployments = &resource{
		group: "apps", version: "v1", plural: "deployments", singular: "deployment", kind: "Deployment",
		short: []string{"deploy"}, categories: []string{"all"}, namespaced: true, subresources: []string{"status", "scale"},
		columns: []column{
			nameColumn, {"Ready", "string", 0, deploymentReady}, {"Up-to-date", "integer", 0, field("status", "updatedReplicas")},
			{"Available", "integer", 0, field("status", "availableReplicas")}, ageColumn,
		},
	}
)

func resources() []*resource {
	return []*resource{namespaces, nodes, pods, services, configMaps, secrets, serviceAccounts, events, deployments}
}

func lookup(group, version, plural string) *resource {
	for _, r := range resources() {
		if r.group == group && r.version == version && r.plural == plural {
			return r
		}
	}
	return nil
}

// groupVersion is a served version, with the kinds that clients create in it but
// that are never stored.
type groupVersion struct {
	group, version string
	reviews        []review
}

// review is a question asked by creating an object.
type review struct{ plural, kind string }

func groupVersions() []groupVersion {
	return []groupVersion{
		{version: "v1"},
		{group: "apps", version: "v1"},
		{group: "authorization.k8s.io", version: "v1", reviews: []review{
			{"selfsubjectaccessreviews", "SelfSubjectAccessReview"}, {"selfsubjectrulesreviews", "SelfSubjectRulesReview"},
		}},
		{group: "authentication.k8s.io", version: "v1", reviews: []review{{"selfsubjectreviews", "SelfSubjectReview"}}},
	}
}

func (gv groupVersion) String() string {
	if gv.group == "" {
		return gv.version
	}
	return gv.group + "/" + gv.version
}

func (gv groupVersion) resources() []*resource {
	var of []*resource
	for _, r := range resources() {
		if r.group == gv.group && r.version == gv.version {
			of = append(of, r)
		}
	}
	return of
}
