package simkube

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// fieldSet is a set of leaf fields, as managers own them. An element of a path
// is "f:NAME", or `k:{"name":"x"}` for an element of a list.
type fieldSet map[string][]string

func (fs fieldSet) add(path []string) { fs[strings.Join(path, "\x00")] = slices.Clone(path) }

// fieldsOf returns the leaves of an object that somebody can own.
func fieldsOf(o object) fieldSet {
	fs := make(fieldSet)
	for name, v := range o {
		switch name {
		case "apiVersion", "kind", "status":
		case "metadata":
			meta, _ := v.(object)
			for name, v := range meta {
				switch name {
				case "name", "namespace", "uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "generateName":
				default:
					fs.walk([]string{"f:metadata", "f:" + name}, name, v)
				}
			}
		default:
			fs.walk([]string{"f:" + name}, name, v)
		}
	}
	return fs
}

func (fs fieldSet) walk(path []string, name string, v any) {
	switch v := v.(type) {
	case object:
		for name, child := range v {
			fs.walk(append(slices.Clone(path), "f:"+name), name, child)
		}
		if len(v) == 0 {
			fs.add(path)
		}
	case []any:
		by, ok := mergeKey(name, v...)
		if !ok || len(v) == 0 {
			fs.add(path)
			return
		}
		for _, e := range v {
			fs.walk(append(slices.Clone(path), "k:"+string(mustJSON(object{by: at(e, by)}))), "", e)
		}
	default:
		fs.add(path)
	}
}

// lookup returns the value of a field, nil if there is none.
func (fs fieldSet) lookup(o any, path []string) any {
	for _, p := range path {
		if name, ok := strings.CutPrefix(p, "f:"); ok {
			o = at(o, name)
			continue
		}
		i := elementOf(o, p)
		if i < 0 {
			return nil
		}
		o = o.([]any)[i] //nolint:forcetypeassert // elementOf found an element in it
	}
	return o
}

// elementOf returns the index of the list element that a path element names.
func elementOf(l any, p string) int {
	items, _ := l.([]any)
	var want object
	if json.Unmarshal([]byte(strings.TrimPrefix(p, "k:")), &want) != nil {
		return -1
	}
	return slices.IndexFunc(items, func(e any) bool {
		for k, v := range want {
			if !same(at(e, k), v) {
				return false
			}
		}
		return true
	})
}

// drop removes a field from an object, and what is empty then.
func drop(o any, path []string) any {
	switch v := o.(type) {
	case object:
		name := strings.TrimPrefix(path[0], "f:")
		if len(path) > 1 {
			v[name] = drop(v[name], path[1:])
		} else {
			delete(v, name)
		}
		if child, ok := v[name].(object); ok && len(child) == 0 {
			delete(v, name)
		}
		return v
	case []any:
		i := elementOf(v, path[0])
		if i < 0 {
			return v
		}
		if len(path) > 1 {
			v[i] = drop(v[i], path[1:])
		}
		if e, ok := v[i].(object); ok && len(e) <= 1 && len(path) > 1 { // nothing but its key
			return slices.Delete(v, i, i+1)
		}
		return v
	default:
		return o
	}
}

// tree tells a set as managedFields have it.
func (fs fieldSet) tree() object {
	root := object{}
	for _, path := range fs {
		node := root
		for _, p := range path {
			next, ok := node[p].(object)
			if !ok {
				next = object{}
				node[p] = next
			}
			node = next
		}
	}
	return root
}

func parseTree(root object) fieldSet {
	fs := make(fieldSet)
	var walk func([]string, object)
	walk = func(path []string, node object) {
		if len(node) == 0 && len(path) > 0 {
			fs.add(path)
		}
		for p, child := range node {
			c, _ := child.(object)
			walk(append(slices.Clone(path), p), c)
		}
	}
	walk(nil, root)
	return fs
}

// manager returns who a request says changes the object.
func manager(r *http.Request) string {
	if m := r.URL.Query().Get("fieldManager"); m != "" {
		return m
	}
	m, _, _ := strings.Cut(r.UserAgent(), "/")
	return m
}

// owner is one manager's entry.
type owner struct {
	manager, operation string
	fields             fieldSet
}

func ownersOf(o object) []owner {
	var owners []owner
	for _, e := range list(o, "metadata", "managedFields") {
		tree, _ := at(e, "fieldsV1").(object)
		owners = append(owners, owner{str(e, "manager"), str(e, "operation"), parseTree(tree)})
	}
	return owners
}

// setOwners writes the entries; those without a field disappear.
func setOwners(o object, owners []owner) {
	var entries []any
	for _, w := range owners {
		if len(w.fields) == 0 {
			continue
		}
		entries = append(entries, object{
			"manager": w.manager, "operation": w.operation, "apiVersion": str(o, "apiVersion"), "fieldsType": "FieldsV1",
			"time": time.Now().UTC().Format(time.RFC3339), "fieldsV1": w.fields.tree(),
		})
	}
	if entries == nil {
		delete(metaOf(o), "managedFields")
		return
	}
	metaOf(o)["managedFields"] = entries
}

// entry returns the index of a manager's entry, making it where there is none.
func entry(owners []owner, manager, operation string) ([]owner, int) {
	i := slices.IndexFunc(owners, func(w owner) bool { return w.manager == manager && w.operation == operation })
	if i >= 0 {
		return owners, i
	}
	return append(owners, owner{manager, operation, make(fieldSet)}), len(owners)
}

// manage hands the fields in which o differs from what it was to a manager.
func manage(o, was object, manager, operation string) {
	if str(o, "metadata", "name") == "" {
		return
	}
	changed := make(fieldSet)
	for k, path := range fieldsOf(o) {
		if !same(changed.lookup(o, path), changed.lookup(was, path)) {
			changed[k] = path
		}
	}
	owners := ownersOf(was)
	if len(changed) == 0 {
		setOwners(o, owners)
		return
	}
	for _, w := range owners {
		for k := range changed {
			delete(w.fields, k)
		}
	}
	owners, i := entry(owners, manager, operation)
	maps.Copy(owners[i].fields, changed)
	setOwners(o, owners)
}

// apply answers a server-side apply.
func (s *Server) apply(w http.ResponseWriter, r *http.Request, t target, v any, f form) error {
	who := r.URL.Query().Get("fieldManager")
	if who == "" {
		return badRequest("PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch")
	}
	o, ok := v.(object)
	if !ok {
		return badRequest("the object provided is unrecognized (must be of type " + t.res.kind + ")")
	}
	if err := fits(o, t); err != nil {
		return err
	}
	if _, ok := s.store.get(t.res, t.key()); !ok {
		fields := fieldsOf(o)
		if err := s.prepare(t, o); err != nil {
			return err
		}
		setOwners(o, []owner{{who, "Apply", fields}})
		rec, err := s.commit(r, t.res, o)
		if err != nil {
			return err
		}
		return writeRecord(w, r, http.StatusCreated, rec, f)
	}
	force := r.URL.Query().Get("force") == "true"
	rec, err := s.change(r, t, func(was object) (object, error) { return merged(t.res, was, clone(o), who, force) })
	if err != nil {
		return err
	}
	return writeRecord(w, r, http.StatusOK, rec, f)
}

// merged applies what a manager wants to an object: its own fields that are
// wanted no more go, and what others own may only be said the same way.
func merged(res *resource, was, want object, who string, force bool) (object, error) {
	fields := fieldsOf(want)
	owners := ownersOf(was)
	owners, mine := entry(owners, who, "Apply")
	var conflicts []any
	for i, w := range owners {
		if i == mine {
			continue
		}
		for k, path := range fields {
			if _, ok := w.fields[k]; !ok || same(fields.lookup(want, path), fields.lookup(was, path)) {
				continue
			}
			if force {
				delete(w.fields, k)
				continue
			}
			conflicts = append(conflicts, object{
				"reason": "FieldManagerConflict", "field": dotted(path),
				"message": fmt.Sprintf("conflict with %q using %s", w.manager, res.groupVersion()),
			})
		}
	}
	if len(conflicts) > 0 {
		return nil, applyConflict(res, str(was, "metadata", "name"), conflicts)
	}
	for k, path := range owners[mine].fields {
		others := slices.ContainsFunc(owners, func(w owner) bool { return w.fields[k] != nil && w.manager != who })
		if _, still := fields[k]; !still && !others {
			drop(was, path)
		}
	}
	delete(metaOf(want), "managedFields")
	o := mergeObject(was, want, true)
	owners[mine].fields = fields
	setOwners(o, owners)
	return o, nil
}

func applyConflict(res *resource, name string, causes []any) error {
	slices.SortFunc(causes, func(a, b any) int { return strings.Compare(str(a, "field"), str(b, "field")) })
	word := "conflicts"
	if len(causes) == 1 {
		word = "conflict"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "Apply failed with %d %s:", len(causes), word)
	for _, c := range causes {
		text.WriteString(" " + str(c, "message") + ": " + str(c, "field"))
	}
	d := details(res, name)
	d["causes"] = causes
	return &apiError{http.StatusConflict, "Conflict", text.String(), d}
}

// dotted tells a path as messages do.
func dotted(path []string) string {
	var b strings.Builder
	for _, p := range path {
		if name, ok := strings.CutPrefix(p, "f:"); ok {
			b.WriteString("." + name)
		} else {
			b.WriteString("[" + strings.Trim(strings.TrimPrefix(p, "k:"), "{}") + "]")
		}
	}
	return b.String()
}
