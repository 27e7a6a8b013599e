package simkube

import (
	"net/http"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// serveDiscovery answers what clients ask before they ask for objects. It
// reports whether the path was one of those.
func (s *Server) serveDiscovery(w http.ResponseWriter, r *http.Request) bool {
	path := strings.TrimSuffix(r.URL.Path, "/")
	switch path {
	case "":
		writeJSON(w, http.StatusOK, object{"paths": []string{"/api", "/apis", "/healthz", "/openapi/v2", "/openapi/v3", "/version"}})
	case "/healthz", "/livez", "/readyz":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok"))
	case "/version":
		writeJSON(w, http.StatusOK, s.version())
	case "/api", "/apis":
		s.serveGroups(w, r, path == "/api")
	case "/openapi/v2":
		serveOpenAPIV2(w)
	case "/openapi/v3":
		writeJSON(w, http.StatusOK, openAPIV3Index())
	default:
		return s.serveGroupVersion(w, path)
	}
	return true
}

func (s *Server) version() object {
	major, minor, _ := strings.Cut(strings.TrimPrefix(s.cfg.Version, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	return object{
		"major": major, "minor": minor, "gitVersion": s.cfg.Version, "gitCommit": "", "gitTreeState": "clean",
		"buildDate": "2025-01-01T00:00:00Z", "goVersion": "go1.26", "compiler": "gc", "platform": "linux/amd64",
	}
}

// serveGroups answers /api and /apis: with everything at once to a client that
// understands that, with names alone to others.
func (s *Server) serveGroups(w http.ResponseWriter, r *http.Request, core bool) {
	accept := r.Header.Get("Accept")
	for _, version := range []string{"v2", "v2beta1"} {
		if strings.Contains(accept, "g=apidiscovery.k8s.io;v="+version+";as=APIGroupDiscoveryList") {
			w.Header().Set("Vary", "Accept")
			aggregated(w, version, core)
			return
		}
	}
	if core {
		writeJSON(w, http.StatusOK, object{
			"kind": "APIVersions", "versions": []string{"v1"}, "serverAddressByClientCIDRs": []any{},
		})
		return
	}
	groups := []any{}
	for _, gv := range groupVersions() {
		if gv.group != "" {
			groups = append(groups, apiGroup(gv))
		}
	}
	writeJSON(w, http.StatusOK, object{"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

func apiGroup(gv groupVersion) object {
	version := object{"groupVersion": gv.String(), "version": gv.version}
	return object{"name": gv.group, "versions": []any{version}, "preferredVersion": version}
}

// serveGroupVersion answers for one group, its resources, or their schema.
func (s *Server) serveGroupVersion(w http.ResponseWriter, path string) bool {
	for _, gv := range groupVersions() {
		prefix := "/apis/" + gv.String()
		if gv.group == "" {
			prefix = "/api/" + gv.version
		}
		switch {
		case path == prefix:
			writeJSON(w, http.StatusOK, resourceList(gv))
		case gv.group != "" && path == "/apis/"+gv.group:
			o := apiGroup(gv)
			o["kind"], o["apiVersion"] = "APIGroup", "v1"
			writeJSON(w, http.StatusOK, o)
		case path == "/openapi/v3"+prefix:
			writeJSON(w, http.StatusOK, openAPIV3(gv))
		default:
			continue
		}
		return true
	}
	return false
}

func verbs() []string {
	return []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
}

// verbsOf returns what a subresource allows.
func verbsOf(sub string) []string {
	switch sub {
	case "log":
		return []string{"get"}
	case "exec", "attach", "portforward":
		return []string{"create", "get"}
	default:
		return []string{"get", "patch", "update"}
	}
}

// kindOf returns the kind that a subresource speaks.
func (r *resource) kindOf(sub string) (group, version, kind string) {
	switch sub {
	case "exec":
		return "", "v1", "PodExecOptions"
	case "attach":
		return "", "v1", "PodAttachOptions"
	case "portforward":
		return "", "v1", "PodPortForwardOptions"
	case "scale":
		return "autoscaling", "v1", "Scale"
	default:
		return r.group, r.version, r.kind
	}
}

func resourceList(gv groupVersion) object {
	all := []any{}
	for _, r := range gv.resources() {
		all = append(all, object{
			"name": r.plural, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind, "verbs": verbs(),
			"shortNames": r.short, "categories": r.categories,
		})
		for _, sub := range r.subresources {
			group, version, kind := r.kindOf(sub)
			all = append(all, object{
				"name": r.plural + "/" + sub, "singularName": "", "namespaced": r.namespaced,
				"group": group, "version": version, "kind": kind, "verbs": verbsOf(sub),
			})
		}
	}
	for _, rv := range gv.reviews {
		all = append(all, object{
			"name": rv.plural, "singularName": strings.ToLower(rv.kind), "namespaced": false, "kind": rv.kind,
			"verbs": []string{"create"},
		})
	}
	return object{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gv.String(), "resources": all}
}

// aggregated tells all groups with all their resources.
func aggregated(w http.ResponseWriter, version string, core bool) {
	items := []any{}
	for _, gv := range groupVersions() {
		if (gv.group == "") != core {
			continue
		}
		items = append(items, object{
			"metadata": object{"name": gv.group, "creationTimestamp": nil},
			"versions": []any{object{"version": gv.version, "resources": aggregatedResources(gv), "freshness": "Current"}},
		})
	}
	w.Header().Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v="+version+";as=APIGroupDiscoveryList")
	writeBody(w, object{
		"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/" + version, "metadata": object{}, "items": items,
	})
}

func aggregatedResources(gv groupVersion) []any {
	all := []any{}
	responseKind := func(group, version, kind string) object {
		return object{"group": group, "version": version, "kind": kind}
	}
	for _, r := range gv.resources() {
		scope := "Cluster"
		if r.namespaced {
			scope = "Namespaced"
		}
		subs := []any{}
		for _, sub := range r.subresources {
			subs = append(subs, object{
				"subresource": sub, "responseKind": responseKind(r.kindOf(sub)), "verbs": verbsOf(sub),
			})
		}
		all = append(all, object{
			"resource": r.plural, "responseKind": responseKind(r.group, r.version, r.kind), "scope": scope,
			"singularResource": r.singular, "verbs": verbs(), "shortNames": r.short, "categories": r.categories,
			"subresources": subs,
		})
	}
	for _, rv := range gv.reviews {
		all = append(all, object{
			"resource": rv.plural, "responseKind": responseKind(gv.group, gv.version, rv.kind), "scope": "Cluster",
			"singularResource": strings.ToLower(rv.kind), "verbs": []string{"create"},
		})
	}
	return all
}

// serveOpenAPIV2 answers with a document that describes nothing, in the only
// form kubectl reads. It then validates nothing by itself.
func serveOpenAPIV2(w http.ResponseWriter) {
	field := func(b []byte, num protowire.Number, v string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), v)
	}
	info := field(field(nil, 1, "Kubernetes"), 2, DefaultVersion)
	doc := field(nil, 1, "2.0")
	doc = protowire.AppendBytes(protowire.AppendTag(doc, 2, protowire.BytesType), info)
	doc = protowire.AppendBytes(protowire.AppendTag(doc, 8, protowire.BytesType), nil) // no paths
	w.Header().Set("Content-Type", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
	_, _ = w.Write(doc)
}

func openAPIV3Index() object {
	paths := object{}
	for _, gv := range groupVersions() {
		path := "apis/" + gv.String()
		if gv.group == "" {
			path = "api/" + gv.version
		}
		paths[path] = object{"serverRelativeURL": "/openapi/v3/" + path + "?hash=1"}
	}
	return object{"paths": paths}
}

// openAPIV3 describes just enough for kubectl to leave validation to the
// server: that objects can be patched with the parameters it wants to use.
func openAPIV3(gv groupVersion) object {
	paths := object{}
	parameter := func(name string) object {
		return object{"name": name, "in": "query", "schema": object{"type": "string", "uniqueItems": true}}
	}
	for _, r := range gv.resources() {
		path := r.prefix() + "/" + r.plural + "/{name}"
		if r.namespaced {
			path = r.prefix() + "/namespaces/{namespace}/" + r.plural + "/{name}"
		}
		paths[path] = object{"patch": object{
			"x-kubernetes-action":             "patch",
			"x-kubernetes-group-version-kind": object{"group": r.group, "version": r.version, "kind": r.kind},
			"parameters":                      []any{parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation"), parameter("force")},
			"responses":                       object{"200": object{"description": "OK"}},
		}}
	}
	return object{
		"openapi": "3.0.0", "info": object{"title": "Kubernetes", "version": DefaultVersion}, "paths": paths,
		"components": object{"schemas": object{}},
	}
}

func isReview(gv groupVersion, plural string) (review, bool) {
	i := slices.IndexFunc(gv.reviews, func(r review) bool { return r.plural == plural })
	if i < 0 {
		return review{}, false
	}
	return gv.reviews[i], true
}
