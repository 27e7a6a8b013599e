package simkube

import (
	"net/http"
	"slices"
	"strings"
)

// target is what a request is about, read from its path.
type target struct {
	gv        groupVersion
	res       *resource
	review    review // instead of res
	namespace string
	name      string
	sub       string
}

// key is the place of the object in the store.
func (t target) key() key { return key{t.namespace, t.name} }

// route answers a request.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && s.serveDiscovery(w, r) {
		return
	}
	t, ok := parseTarget(r.URL.Path)
	if !ok {
		writeErr(w, noSuchPath())
		return
	}
	if t.res == nil {
		s.serveReview(w, r, t)
		return
	}
	if err := s.authorize(r, t); err != nil {
		writeErr(w, err)
		return
	}
	if t.sub != "" && t.sub != "status" {
		s.serveSubresource(w, r, t)
		return
	}
	if err := s.serveObjects(w, r, t); err != nil {
		writeErr(w, err)
	}
}

// parseTarget reads a path such as /api/v1/namespaces/NS/pods/NAME/log.
func parseTarget(path string) (target, bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	var gv groupVersion
	switch {
	case len(parts) > 2 && parts[0] == "api":
		gv = groupVersion{version: parts[1]}
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		gv = groupVersion{group: parts[1], version: parts[2]}
		parts = parts[3:]
	default:
		return target{}, false
	}
	t := target{gv: gv}
	if parts[0] == "namespaces" && len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
		t.namespace = parts[1]
		parts = parts[2:]
	}
	if len(parts) > 1 {
		t.name = parts[1]
	}
	if len(parts) > 2 {
		t.sub = parts[2]
	}
	if t.res = lookup(gv.group, gv.version, parts[0]); t.res != nil {
		known := t.sub == "" || slices.Contains(t.res.subresources, t.sub)
		return t, known && len(parts) <= 3 && t.res.namespaced == (t.namespace != "" || t.name == "" && t.res.namespaced)
	}
	for _, known := range groupVersions() {
		if known.group == gv.group && known.version == gv.version {
			var ok bool
			t.review, ok = isReview(known, parts[0])
			return t, ok && len(parts) == 1
		}
	}
	return t, false
}

// verbOf returns what a request wants to do, in the words of RBAC.
func verbOf(r *http.Request, t target) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		switch {
		case r.URL.Query().Get("watch") == "true" || r.URL.Query().Get("watch") == "1":
			return "watch"
		case t.name == "":
			return "list"
		case t.sub == "exec" || t.sub == "attach" || t.sub == "portforward":
			return "create"
		default:
			return "get"
		}
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	default:
		if t.name == "" {
			return "deletecollection"
		}
		return "delete"
	}
}

// caller returns who is acting: the impersonated user, or the administrator
// that every caller is by itself.
func caller(r *http.Request) (string, []string) {
	if user := r.Header.Get("Impersonate-User"); user != "" {
		return user, append(slices.Clone(r.Header.Values("Impersonate-Group")), "system:authenticated")
	}
	return "kubernetes-admin", []string{"system:masters", "system:authenticated"}
}

func (s *Server) authorize(r *http.Request, t target) error {
	if s.cfg.Allow == nil {
		return nil
	}
	user, groups := caller(r)
	a := Access{
		User: user, Groups: groups, Verb: verbOf(r, t), Group: t.res.group, Resource: t.res.plural,
		Namespace: t.namespace, Name: t.name,
	}
	if t.sub != "" {
		a.Resource += "/" + t.sub
	}
	if s.cfg.Allow(a) {
		return nil
	}
	where := "at the cluster scope"
	if a.Namespace != "" {
		where = `in the namespace "` + a.Namespace + `"`
	}
	what := t.res.qualified() + " "
	if t.name != "" {
		what += `"` + t.name + `" `
	}
	return &apiError{
		code: http.StatusForbidden, reason: "Forbidden", details: details(t.res, t.name),
		message: what + `is forbidden: User "` + user + `" cannot ` + a.Verb + ` resource "` + a.Resource +
			`" in API group "` + a.Group + `" ` + where,
	}
}

// serveObjects answers requests for objects themselves.
func (s *Server) serveObjects(w http.ResponseWriter, r *http.Request, t target) error {
	f, err := formOf(r.Header.Get("Accept"))
	if err != nil {
		return err
	}
	switch verbOf(r, t) {
	case "watch":
		return s.watch(w, r, t, f)
	case "list":
		return s.list(w, r, t, f)
	case "get":
		rec, ok := s.store.get(t.res, t.key())
		if !ok {
			return notFound(t.res, t.name)
		}
		return writeRecord(w, r, http.StatusOK, rec, f)
	case "create":
		return s.create(w, r, t, f)
	case "update":
		return s.replace(w, r, t, f)
	case "patch":
		return s.patch(w, r, t, f)
	case "delete":
		return s.remove(w, r, t)
	case "deletecollection":
		return s.removeAll(w, r, t)
	default:
		return methodNotAllowed()
	}
}

// writeRecord answers with one object in the form asked for.
func writeRecord(w http.ResponseWriter, r *http.Request, code int, rec *record, f form) error {
	switch f {
	case asTable:
		meta := object{"resourceVersion": str(rec.decode(), "metadata", "resourceVersion")}
		writeJSON(w, code, rec.res.table([]*record{rec}, meta, r.URL.Query().Get("includeObject")))
	case asMetadata:
		writeJSON(w, code, partial(rec.decode()))
	case asObject:
		writeRaw(w, code, rec.raw)
	}
	return nil
}

func (s *Server) serveSubresource(w http.ResponseWriter, r *http.Request, t target) {
	rec, ok := s.store.get(t.res, t.key())
	if !ok {
		writeErr(w, notFound(t.res, t.name))
		return
	}
	var err error
	switch t.sub {
	case "log":
		err = s.serveLog(w, r, rec)
	case "exec", "attach":
		err = s.serveExec(w, r, rec, t.sub)
	case "portforward":
		err = s.servePortForward(w, r, rec)
	case "scale":
		err = s.serveScale(w, r, t, rec)
	default:
		err = noSuchPath()
	}
	if err != nil {
		writeErr(w, err)
	}
}
