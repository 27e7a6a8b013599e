package simkube

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// patch answers a PATCH of any of the four kinds.
func (s *Server) patch(w http.ResponseWriter, r *http.Request, t target, f form) error {
	v, media, err := body(r)
	if err != nil {
		return err
	}
	if media == "application/apply-patch+yaml" {
		return s.apply(w, r, t, v, f)
	}
	rec, err := s.change(r, t, func(o object) (object, error) {
		was := clone(o)
		switch media {
		case "application/json-patch+json":
			if o, err = jsonPatch(o, v); err != nil {
				return nil, err
			}
		case "application/merge-patch+json", "application/strategic-merge-patch+json":
			p, ok := v.(object)
			if !ok {
				return nil, badRequest("a merge patch is an object")
			}
			o = mergeObject(o, p, media == "application/strategic-merge-patch+json")
		default:
			return nil, unsupportedMedia(media)
		}
		if t.sub == "" {
			o["status"] = was["status"]
		}
		manage(o, was, manager(r), "Update")
		return o, nil
	})
	if err != nil {
		return err
	}
	return writeRecord(w, r, http.StatusOK, rec, f)
}

// mergeKeys are the fields by which the elements of a list are told apart,
// by the name of the list.
func mergeKeys() map[string]string {
	return map[string]string{
		"containers": "name", "initContainers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath",
		"ports": "containerPort", "conditions": "type", "imagePullSecrets": "name", "hostAliases": "ip",
		"containerStatuses": "name", "ownerReferences": "uid",
	}
}

// mergeKey returns the key of a list, and whether it is merged at all.
func mergeKey(name string, items ...any) (string, bool) {
	by, ok := mergeKeys()[name]
	if !ok {
		return "", false
	}
	if name == "ports" && len(items) > 0 && at(items[0], "port") != nil {
		by = "port" // those of a service
	}
	return by, true
}

// mergeObject applies a merge patch; strategic says that lists are merged by
// their keys rather than replaced.
func mergeObject(o, patch object, strategic bool) object {
	if strategic {
		switch patch["$patch"] {
		case "replace":
			patch = clone(patch)
			delete(patch, "$patch")
			return patch
		case "delete":
			return object{}
		}
	}
	if o == nil {
		o = object{}
	}
	for name, v := range patch {
		if strategic && strings.HasPrefix(name, "$") {
			strategicDirective(o, name, v)
			continue
		}
		switch v := v.(type) {
		case nil:
			delete(o, name)
		case object:
			old, _ := o[name].(object)
			o[name] = mergeObject(old, v, strategic)
		case []any:
			by, ok := mergeKey(name, v...)
			old, _ := o[name].([]any)
			switch {
			case strategic && ok:
				o[name] = mergeList(old, v, by)
			case strategic && name == "finalizers":
				o[name] = unionList(old, v)
			default:
				o[name] = v
			}
		default:
			o[name] = v
		}
	}
	return o
}

// strategicDirective carries out an instruction about a list. The order that
// $setElementOrder asks for is not kept.
func strategicDirective(o object, name string, v any) {
	list, ok := strings.CutPrefix(name, "$deleteFromPrimitiveList/")
	if !ok {
		return
	}
	gone, _ := v.([]any)
	old, _ := o[list].([]any)
	o[list] = slices.DeleteFunc(slices.Clone(old), func(e any) bool { return slices.Contains(gone, e) })
}

func unionList(old, more []any) []any {
	for _, e := range more {
		if !slices.Contains(old, e) {
			old = append(old, e)
		}
	}
	return old
}

// mergeList merges elements by a key field.
func mergeList(old, patch []any, by string) []any {
	for _, e := range patch {
		p, ok := e.(object)
		if !ok {
			return patch
		}
		i := slices.IndexFunc(old, func(o any) bool { return same(at(o, by), p[by]) })
		switch {
		case p["$patch"] == "delete" && i >= 0:
			old = slices.Delete(slices.Clone(old), i, i+1)
		case p["$patch"] == "delete":
		case p["$patch"] == "replace":
			old = slices.Clone(patch)
			return slices.DeleteFunc(old, func(o any) bool { return at(o, "$patch") != nil })
		case i >= 0:
			was, _ := old[i].(object)
			old[i] = mergeObject(was, p, true)
		default:
			old = append(old, mergeObject(object{}, p, true))
		}
	}
	return old
}

// jsonPatch applies a JSON patch, RFC 6902.
func jsonPatch(o object, v any) (object, error) {
	ops, ok := v.([]any)
	if !ok {
		return nil, badRequest("a JSON patch is a list of operations")
	}
	var doc any = o
	for _, op := range ops {
		var err error
		if doc, err = jsonPatchOp(doc, op); err != nil {
			return nil, &apiError{
				code: http.StatusUnprocessableEntity, reason: "Invalid",
				message: "the server rejected our request due to an error in our request: " + err.Error(),
			}
		}
	}
	out, ok := doc.(object)
	if !ok {
		return nil, badRequest("the patched object is none any more")
	}
	return out, nil
}

func jsonPatchOp(doc, op any) (any, error) {
	path, verb := pointer(str(op, "path")), str(op, "op")
	switch verb {
	case "test":
		got, err := resolve(doc, path)
		if err == nil && !same(got, at(op, "value")) {
			err = fmt.Errorf("testing path %s: value differs", str(op, "path"))
		}
		return doc, err
	case "move", "copy":
		from := pointer(str(op, "from"))
		v, err := resolve(doc, from)
		if err == nil && verb == "move" {
			doc, err = edit(doc, from, "remove", nil)
		}
		if err != nil {
			return nil, err
		}
		return edit(doc, path, "add", clone(v))
	case "add", "remove", "replace":
		return edit(doc, path, verb, at(op, "value"))
	default:
		return nil, fmt.Errorf("unknown operation %q", verb)
	}
}

// pointer splits a JSON pointer, RFC 6901.
func pointer(s string) []string {
	if s == "" {
		return nil
	}
	parts := strings.Split(strings.TrimPrefix(s, "/"), "/")
	for i, p := range parts {
		parts[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(p)
	}
	return parts
}

func resolve(doc any, path []string) (any, error) {
	for _, p := range path {
		switch v := doc.(type) {
		case object:
			next, ok := v[p]
			if !ok {
				return nil, fmt.Errorf("no such path: %s", p)
			}
			doc = next
		case []any:
			i, err := strconv.Atoi(p)
			if err != nil || i < 0 || i >= len(v) {
				return nil, fmt.Errorf("no such index: %s", p)
			}
			doc = v[i]
		default:
			return nil, fmt.Errorf("no such path: %s", p)
		}
	}
	return doc, nil
}

// edit adds, removes or replaces the value at a path and returns the document.
func edit(doc any, path []string, verb string, value any) (any, error) {
	if len(path) == 0 {
		return value, nil
	}
	if len(path) > 1 {
		child, err := resolve(doc, path[:1])
		if err != nil {
			return nil, err
		}
		if child, err = edit(child, path[1:], verb, value); err != nil {
			return nil, err
		}
		return edit(doc, path[:1], "set", child)
	}
	switch v := doc.(type) {
	case object:
		if _, ok := v[path[0]]; !ok && (verb == "remove" || verb == "replace") {
			return nil, fmt.Errorf("no such path: %s", path[0])
		}
		if verb == "remove" {
			delete(v, path[0])
		} else {
			v[path[0]] = value
		}
		return v, nil
	case []any:
		return editList(v, path[0], verb, value)
	default:
		return nil, fmt.Errorf("no such path: %s", path[0])
	}
}

func editList(l []any, index, verb string, value any) (any, error) {
	i, err := strconv.Atoi(index)
	if index == "-" {
		i, err = len(l), nil
	}
	limit := len(l) - 1
	if verb == "add" {
		limit++
	}
	if err != nil || i < 0 || i > limit {
		return nil, fmt.Errorf("no such index: %s", index)
	}
	switch verb {
	case "remove":
		return slices.Delete(l, i, i+1), nil
	case "add":
		return slices.Insert(l, i, value), nil
	default:
		l[i] = value
		return l, nil
	}
}
