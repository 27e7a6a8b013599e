package simkube

import (
	"net/http"
	"slices"
	"strings"
)

// patch answers a PATCH. Every kind of patch is merged in the same way; a JSON
// patch is not known. Nothing is kept of who owns which field.
func (s *Server) patch(w http.ResponseWriter, r *http.Request, t target, f form) error {
	v, media, err := body(r)
	if err != nil {
		return err
	}
	p, ok := v.(object)
	if !ok || media == "application/json" {
		return unsupportedMedia(media)
	}
	if media == "application/apply-patch+yaml" {
		if err := fits(p, t); err != nil {
			return err
		}
		if _, ok := s.store.get(t.res, t.key()); !ok {
			return s.createFrom(w, r, t, p, f)
		}
	}
	rec, err := s.change(r, t, func(o object) (object, error) {
		status := o["status"]
		o = merge(o, p)
		if t.sub == "" {
			o["status"] = status
		}
		return o, nil
	})
	if err != nil {
		return err
	}
	return writeRecord(w, r, http.StatusOK, rec, f)
}

// merge applies a merge patch. Lists are replaced, but for those whose elements
// have names, as a pod's containers: kubectl sends of them what is new.
func merge(o, patch object) object {
	if o == nil {
		o = object{}
	}
	for name, v := range patch {
		if strings.HasPrefix(name, "$") {
			continue // the order of a list, which is not kept
		}
		switch v := v.(type) {
		case nil:
			delete(o, name)
		case object:
			old, _ := o[name].(object)
			o[name] = merge(old, v)
		case []any:
			old, _ := o[name].([]any)
			o[name] = mergeList(old, v)
		default:
			o[name] = v
		}
	}
	return o
}

func mergeList(old, patch []any) []any {
	for _, e := range patch {
		p, ok := e.(object)
		if !ok || str(p, "name") == "" {
			return patch
		}
		i := slices.IndexFunc(old, func(o any) bool { return str(o, "name") == str(p, "name") })
		switch {
		case p["$patch"] == "delete":
			if i >= 0 {
				old = slices.Delete(slices.Clone(old), i, i+1)
			}
		case i >= 0:
			was, _ := old[i].(object)
			old[i] = merge(was, p)
		default:
			old = append(old, merge(nil, p))
		}
	}
	return old
}
