package simkube

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// maxBody bounds what is read of a request, as the real server does.
const maxBody = 3 << 20

// body reads a request's object, in JSON or YAML.
func body(r *http.Request) (any, string, error) {
	media := r.Header.Get("Content-Type")
	if m, _, err := mime.ParseMediaType(media); err == nil {
		media = m
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, media, badRequest(err.Error())
	}
	if len(raw) > maxBody {
		return nil, media, &apiError{
			code: http.StatusRequestEntityTooLarge, reason: "RequestEntityTooLarge",
			message: fmt.Sprintf("limit is %d", maxBody),
		}
	}
	var v any
	switch media {
	case "", "application/json", "application/merge-patch+json",
		"application/strategic-merge-patch+json":
		err = json.Unmarshal(raw, &v)
	case "application/yaml", "application/apply-patch+yaml":
		if err = yaml.Unmarshal(raw, &v); err == nil {
			v = clone(v)
		}
	case protoMedia:
		v, err = decodeProto(raw)
	default:
		return nil, media, unsupportedMedia(media)
	}
	if err != nil {
		return nil, media, badRequest("the object provided is unrecognized: " + err.Error())
	}
	return v, media, nil
}

// objectIn reads a request's object and checks that it fits the path.
func objectIn(r *http.Request, t target) (object, error) {
	v, _, err := body(r)
	if err != nil {
		return nil, err
	}
	o, ok := v.(object)
	if !ok {
		return nil, badRequest("the object provided is unrecognized (must be of type " + t.res.kind + ")")
	}
	return o, fits(o, t)
}

// fits checks that an object is of the path's kind and place, and puts it
// there if it names none.
func fits(o object, t target) error {
	if kind := str(o, "kind"); kind != "" && kind != t.res.kind {
		return badRequest(fmt.Sprintf("the object provided is a %s, not a %s", kind, t.res.kind))
	}
	meta := metaOf(o)
	if ns := str(meta, "namespace"); ns != "" && ns != t.namespace {
		return badRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	if t.res.namespaced {
		meta["namespace"] = t.namespace
	}
	if name := str(meta, "name"); t.name != "" && name != "" && name != t.name {
		return badRequest("the name of the object (" + name + ") does not match the name on the URL (" + t.name + ")")
	}
	if t.name != "" {
		meta["name"] = t.name
	}
	return nil
}

// invalid says which field is missing.
func invalid(res *resource, name, field string) error {
	return &apiError{
		code: http.StatusUnprocessableEntity, reason: "Invalid", details: details(res, name),
		message: fmt.Sprintf("%s %q is invalid: %s: Required value", res.kind, name, field),
	}
}

func dryRun(r *http.Request) bool { return r.URL.Query().Get("dryRun") == "All" }

func (s *Server) create(w http.ResponseWriter, r *http.Request, t target, f form) error {
	o, err := objectIn(r, t)
	if err != nil {
		return err
	}
	return s.createFrom(w, r, t, o, f)
}

func (s *Server) createFrom(w http.ResponseWriter, r *http.Request, t target, o object, f form) error {
	if err := s.prepare(t, o); err != nil {
		return err
	}
	rec, err := s.commit(r, t.res, o)
	if err != nil {
		return err
	}
	return writeRecord(w, r, http.StatusCreated, rec, f)
}

// prepare names an object that is about to be created and gives it what a real
// cluster's controllers would.
func (s *Server) prepare(t target, o object) error {
	meta := metaOf(o)
	if prefix := str(meta, "generateName"); str(meta, "name") == "" && prefix != "" {
		meta["name"] = fmt.Sprintf("%s%05x", prefix, rand.IntN(1<<20))
	}
	name := str(meta, "name")
	if name == "" {
		return invalid(t.res, "", "metadata.name")
	}
	if t.res.namespaced {
		if _, ok := s.store.get(namespaces, key{name: t.namespace}); !ok {
			return notFound(namespaces, t.namespace)
		}
	}
	delete(meta, "resourceVersion")
	return s.complete(t.res, o)
}

// commit stores a new object, unless the request is a rehearsal.
func (s *Server) commit(r *http.Request, res *resource, o object) (*record, error) {
	if !dryRun(r) {
		return s.store.create(res, o)
	}
	meta := metaOf(o)
	if _, ok := s.store.get(res, key{str(meta, "namespace"), str(meta, "name")}); ok {
		return nil, alreadyExists(res, str(meta, "name"))
	}
	o["kind"], o["apiVersion"] = res.kind, res.groupVersion()
	return &record{res: res, raw: mustJSON(o)}, nil
}

// rehearsed marks an update that is not to be stored.
type rehearsed struct{ rec *record }

func (*rehearsed) Error() string { return "dry run" }

// change updates an object, or rehearses it.
func (s *Server) change(r *http.Request, t target, f func(object) (object, error)) (*record, error) {
	var dry *rehearsed
	rec, err := s.store.update(t.res, t.key(), func(o object) (object, error) {
		o, err := f(o)
		if err != nil {
			return nil, err
		}
		if t.sub == "" {
			err = s.complete(t.res, o)
		}
		if err == nil && dryRun(r) {
			dry = &rehearsed{&record{res: t.res, raw: mustJSON(o)}}
			return nil, dry
		}
		return o, err
	})
	if dry != nil {
		return dry.rec, nil
	}
	return rec, err
}

func (s *Server) replace(w http.ResponseWriter, r *http.Request, t target, f form) error {
	o, err := objectIn(r, t)
	if err != nil {
		return err
	}
	rec, err := s.change(r, t, func(old object) (object, error) {
		o := clone(o)
		if t.sub == "" && o["status"] == nil && old["status"] != nil {
			o["status"] = old["status"]
		}
		return o, nil
	})
	if err != nil {
		return err
	}
	return writeRecord(w, r, http.StatusOK, rec, f)
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request, t target) error {
	rec, ok := s.store.get(t.res, t.key())
	if !ok {
		return notFound(t.res, t.name)
	}
	if !dryRun(r) {
		var err error
		if rec, err = s.store.remove(t.res, t.key()); err != nil {
			return err
		}
		s.removed(t.res, t.key())
	}
	if t.res == pods {
		writeRaw(w, http.StatusOK, rec.raw)
		return nil
	}
	d := details(t.res, t.name)
	d["uid"] = str(rec.decode(), "metadata", "uid")
	writeJSON(w, http.StatusOK, object{
		"kind": "Status", "apiVersion": "v1", "metadata": object{}, "status": "Success", "details": d,
	})
	return nil
}

func (s *Server) removeAll(w http.ResponseWriter, r *http.Request, t target) error {
	recs, version := s.store.list(t.res, t.namespace)
	sel := selectionOf(r, t)
	var gone []*record
	for _, rec := range recs {
		ok, err := sel.matches(rec)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		gone = append(gone, rec)
		if dryRun(r) {
			continue
		}
		k := key{rec.namespace, rec.name}
		if _, err := s.store.remove(t.res, k); err == nil { // else another request was faster
			s.removed(t.res, k)
		}
	}
	writeItems(w, t.res, gone, object{"resourceVersion": strconv.FormatUint(version, 10)})
	return nil
}

// removed takes away what belongs to an object that is gone.
func (s *Server) removed(res *resource, k key) {
	switch res {
	case pods:
		s.files.forget(k)
		s.logs.forget(k)
	case namespaces:
		for _, inside := range resources() {
			recs, _ := s.store.list(inside, k.name)
			for _, rec := range recs {
				if rec.namespace == k.name && inside.namespaced {
					_, _ = s.store.remove(inside, key{rec.namespace, rec.name}) // or another request was faster
				}
			}
		}
	}
}
