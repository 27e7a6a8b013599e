package simkube

import (
	"net/http"
)

// serveReview answers a question that is asked by creating an object.
func (s *Server) serveReview(w http.ResponseWriter, r *http.Request, t target) {
	if r.Method != http.MethodPost {
		writeErr(w, methodNotAllowed())
		return
	}
	v, _, err := body(r)
	if err != nil {
		writeErr(w, err)
		return
	}
	o, ok := v.(object)
	if !ok {
		writeErr(w, badRequest("the object provided is unrecognized (must be of type "+t.review.kind+")"))
		return
	}
	user, groups := caller(r)
	o["kind"], o["apiVersion"] = t.review.kind, t.gv.String()
	metaOf(o)["creationTimestamp"] = nil
	switch t.review.kind {
	case "SelfSubjectAccessReview":
		o["status"] = s.mayI(user, groups, o)
	case "SelfSubjectRulesReview":
		everything := []string{"*"}
		o["status"] = object{
			"resourceRules":    []any{object{"verbs": everything, "apiGroups": everything, "resources": everything}},
			"nonResourceRules": []any{object{"verbs": everything, "nonResourceURLs": everything}},
			"incomplete":       s.cfg.Allow != nil,
		}
	case "SelfSubjectReview":
		o["status"] = object{"userInfo": object{"username": user, "groups": groups}}
	}
	writeJSON(w, http.StatusCreated, o)
}

// mayI answers "kubectl auth can-i".
func (s *Server) mayI(user string, groups []string, o object) object {
	allowed := true
	if attr, ok := at(o, "spec", "resourceAttributes").(object); ok && s.cfg.Allow != nil {
		a := Access{
			User: user, Groups: groups, Verb: str(attr, "verb"), Group: str(attr, "group"), Resource: str(attr, "resource"),
			Namespace: str(attr, "namespace"), Name: str(attr, "name"),
		}
		if sub := str(attr, "subresource"); sub != "" {
			a.Resource += "/" + sub
		}
		allowed = s.cfg.Allow(a)
	}
	return object{"allowed": allowed}
}
