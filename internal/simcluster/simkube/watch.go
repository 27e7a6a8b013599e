package simkube

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// defaultWatch is how long a watch lasts that names no time; a real server
// chooses half an hour to an hour.
const defaultWatch = 30 * time.Minute

// watcher writes the events of one watch.
type watcher struct {
	s       *Server
	w       http.ResponseWriter
	sel     selection
	form    form
	include string
	defined bool // the table's columns have been sent
}

// watch answers with events until the client leaves or time is up.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, t target, f form) error {
	q := r.URL.Query()
	wr := &watcher{s: s, w: w, sel: selectionOf(r, t), form: f, include: q.Get("includeObject")}
	if _, err := wr.sel.matches(nil); err != nil {
		return err
	}
	version, initial := uint64(0), q.Get("sendInitialEvents") == "true"
	if v := q.Get("resourceVersion"); v != "" && !initial {
		var err error
		if version, err = strconv.ParseUint(v, 10, 64); err != nil {
			return badRequest("invalid resource version " + strconv.Quote(v))
		}
	}
	if _, _, _, ok := s.store.since(version); !ok && version != 0 {
		return expired()
	}
	ctx, done := s.streaming(r)
	defer done()
	limit := defaultWatch
	if sec, err := strconv.Atoi(q.Get("timeoutSeconds")); err == nil && sec > 0 {
		limit = time.Duration(sec) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s.watches.Add(1)
	defer s.watches.Add(-1)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	wr.flush()
	bookmarks := q.Get("allowWatchBookmarks") == "true"
	if version == 0 {
		var err error
		if version, err = wr.existing(initial && bookmarks); err != nil {
			return nil // the client left
		}
	}
	wr.follow(ctx, version, bookmarks)
	return nil
}

func (wr *watcher) flush() {
	if f, ok := wr.w.(http.Flusher); ok {
		f.Flush()
	}
}

// existing sends what there is already, and the bookmark that says so if the
// client asked for one.
func (wr *watcher) existing(bookmark bool) (uint64, error) {
	recs, version := wr.s.store.list(wr.sel.res, wr.sel.namespace)
	for _, rec := range recs {
		if ok, err := wr.sel.matches(rec); err != nil || !ok {
			continue
		}
		if err := wr.send("ADDED", rec); err != nil {
			return 0, err
		}
	}
	if bookmark {
		if err := wr.bookmark(version, object{"k8s.io/initial-events-end": "true"}); err != nil {
			return 0, err
		}
	}
	wr.flush()
	return version, nil
}

// follow sends the changes after version as they happen.
func (wr *watcher) follow(ctx context.Context, version uint64, bookmarks bool) {
	tick := time.NewTicker(wr.s.cfg.BookmarkInterval)
	defer tick.Stop()
	for {
		changes, now, more, ok := wr.s.store.since(version)
		if !ok {
			_, o := status(expired())
			_ = wr.event("ERROR", mustJSON(o)) // the watch ends either way
			return
		}
		for _, c := range changes {
			if wr.change(c) != nil {
				return
			}
		}
		if len(changes) > 0 {
			wr.flush()
		}
		version = now
		select {
		case <-more:
		case <-tick.C:
			if bookmarks && wr.bookmark(version, nil) != nil {
				return
			}
			wr.flush()
		case <-ctx.Done():
			return
		}
	}
}

// change sends a change as it looks through the selection: an object that no
// longer matches is gone, an object that now matches is new.
func (wr *watcher) change(c change) error {
	is, err := wr.sel.matches(c.rec)
	if err != nil {
		return err
	}
	was, err := wr.sel.matches(c.old)
	if err != nil {
		return err
	}
	switch {
	case is && c.kind == "MODIFIED" && !was:
		return wr.send("ADDED", c.rec)
	case is:
		return wr.send(c.kind, c.rec)
	case was:
		return wr.send("DELETED", c.rec)
	default:
		return nil
	}
}

func (wr *watcher) send(kind string, rec *record) error {
	switch wr.form {
	case asTable:
		tbl := rec.res.table([]*record{rec}, object{"resourceVersion": strconv.FormatUint(rec.version, 10)}, wr.include)
		if wr.defined {
			tbl["columnDefinitions"] = nil // they are sent once
		}
		wr.defined = true
		return wr.event(kind, mustJSON(tbl))
	case asMetadata:
		return wr.event(kind, mustJSON(partial(rec.decode())))
	default:
		return wr.event(kind, rec.raw)
	}
}

// bookmark tells the client how far it is.
func (wr *watcher) bookmark(version uint64, annotations object) error {
	meta := object{"resourceVersion": strconv.FormatUint(version, 10), "creationTimestamp": nil}
	if annotations != nil {
		meta["annotations"] = annotations
	}
	o := object{"kind": wr.sel.res.kind, "apiVersion": wr.sel.res.groupVersion(), "metadata": meta}
	switch wr.form {
	case asTable:
		o = object{
			"kind": "Table", "apiVersion": metaV1, "metadata": object{"resourceVersion": meta["resourceVersion"]},
			"columnDefinitions": wr.sel.res.columnDefinitions(),
			"rows":              []any{object{"cells": []any{}, "object": partial(o)}},
		}
	case asMetadata:
		o = partial(o)
	case asObject:
	}
	return wr.event("BOOKMARK", mustJSON(o))
}

func (wr *watcher) event(kind string, raw []byte) error {
	return json.NewEncoder(wr.w).Encode(struct {
		Type   string          `json:"type"`
		Object json.RawMessage `json:"object"`
	}{kind, raw})
}

func mustJSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // it is built from JSON values
	}
	return raw
}
