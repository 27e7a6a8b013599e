package simkube

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// selection is which objects a list or watch is about.
type selection struct {
	res       *resource
	namespace string
	name      string // a watch of a single object
	labels    string
	fields    string
}

func selectionOf(r *http.Request, t target) selection {
	q := r.URL.Query()
	return selection{t.res, t.namespace, t.name, q.Get("labelSelector"), q.Get("fieldSelector")}
}

// matches reports whether a record is selected. A nil record is not.
func (sel selection) matches(rec *record) (bool, error) {
	if rec == nil || rec.res != sel.res || sel.namespace != "" && rec.namespace != sel.namespace ||
		sel.name != "" && rec.name != sel.name {
		return false, nil
	}
	if ok, err := matchesLabels(sel.labels, rec.labels); err != nil || !ok {
		return false, err
	}
	if sel.fields == "" {
		return true, nil
	}
	return matchesFields(sel.fields, rec.decode())
}

// token says where the next chunk of a list goes on, and of which version the
// first one was.
type token struct {
	version uint64
	after   key
}

func (t token) String() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d/%s/%s", t.version, t.after.namespace, t.after.name))
}

func parseToken(s string) (token, error) {
	raw, err := base64.RawURLEncoding.DecodeString(s)
	parts := strings.SplitN(string(raw), "/", 3)
	if err != nil || len(parts) != 3 {
		return token{}, badRequest("continue key is not valid")
	}
	version, err := strconv.ParseUint(parts[0], 10, 64)
	if err != nil {
		return token{}, badRequest("continue key is not valid")
	}
	return token{version, key{parts[1], parts[2]}}, nil
}

// list answers with the objects selected, as many as the client wants at once.
// Chunks carry the version of the first: changes made meanwhile are then seen
// by the watch that follows.
func (s *Server) list(w http.ResponseWriter, r *http.Request, t target, f form) error {
	q := r.URL.Query()
	sel := selectionOf(r, t)
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit <= 0 {
		limit = int(^uint(0) >> 1)
	}
	recs, version := s.store.list(t.res, t.namespace)
	var from key
	if c := q.Get("continue"); c != "" {
		tok, err := parseToken(c)
		if err != nil {
			return err
		}
		version, from = tok.version, tok.after
	}
	var chosen []*record
	left := 0
	for _, rec := range recs {
		if from != (key{}) && (key{rec.namespace, rec.name}).compare(from) <= 0 {
			continue
		}
		ok, err := sel.matches(rec)
		if err != nil {
			return err
		}
		switch {
		case !ok:
		case len(chosen) < limit:
			chosen = append(chosen, rec)
		default:
			left++
		}
	}
	meta := object{"resourceVersion": strconv.FormatUint(version, 10)}
	if left > 0 {
		last := chosen[len(chosen)-1]
		meta["continue"] = token{version, key{last.namespace, last.name}}.String()
		if sel.labels == "" && sel.fields == "" { // a real server does not count with a selector
			meta["remainingItemCount"] = left
		}
	}
	writeList(w, r, t.res, chosen, meta, f)
	return nil
}

func writeList(w http.ResponseWriter, r *http.Request, res *resource, recs []*record, meta object, f form) {
	switch f {
	case asTable:
		writeJSON(w, http.StatusOK, res.table(recs, meta, r.URL.Query().Get("includeObject")))
	case asMetadata:
		items := make([]any, 0, len(recs))
		for _, rec := range recs {
			items = append(items, partial(rec.decode()))
		}
		writeJSON(w, http.StatusOK, object{
			"kind": "PartialObjectMetadataList", "apiVersion": metaV1, "metadata": meta, "items": items,
		})
	case asObject:
		writeItems(w, res, recs, meta)
	}
}

// writeItems streams a list: ten thousand objects are never one value.
func writeItems(w http.ResponseWriter, res *resource, recs []*record, meta object) {
	w.Header().Set("Content-Type", "application/json")
	head := object{"kind": res.kind + "List", "apiVersion": res.groupVersion(), "metadata": meta}
	raw := mustJSON(head)
	_, _ = w.Write(raw[:len(raw)-1]) // a client that hung up needs no answer
	_, _ = io.WriteString(w, `,"items":[`)
	for i, rec := range recs {
		if i > 0 {
			_, _ = io.WriteString(w, ",")
		}
		if _, err := w.Write(rec.raw); err != nil {
			return
		}
	}
	_, _ = io.WriteString(w, "]}\n")
}
