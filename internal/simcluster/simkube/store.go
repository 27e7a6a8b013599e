package simkube

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"berth/internal/wake"
)

// object is an API object as JSON has it.
type object = map[string]any

// record is a stored version of an object. It never changes: an update stores
// another one. The JSON is kept instead of the object because it is a tenth of
// the size and what most requests want.
type record struct {
	res       *resource
	namespace string
	name      string
	labels    map[string]string
	version   uint64
	raw       []byte
}

// decode returns the object, which is the caller's to change.
func (r *record) decode() object {
	var o object
	if err := json.Unmarshal(r.raw, &o); err != nil {
		panic(fmt.Sprintf("stored object is no JSON: %v", err)) // it was marshalled here
	}
	return o
}

// change is one event of the history.
type change struct {
	kind string // ADDED, MODIFIED, DELETED
	rec  *record
	old  *record // what it replaced
}

// key is namespace and name, in the order lists have.
type key struct{ namespace, name string }

func (k key) compare(o key) int {
	if c := strings.Compare(k.namespace, o.namespace); c != 0 {
		return c
	}
	return strings.Compare(k.name, o.name)
}

// store keeps the objects and the latest changes to them. The version counts
// changes, so that the history needs no index: the change to version v is
// history[v-first].
type store struct {
	limit int

	mu      sync.Mutex
	version uint64
	first   uint64 // the version of history[0]
	history []change
	objects map[*resource]map[key]*record
	changed wake.Broadcast
}

func newStore(limit int) *store {
	return &store{
		limit: limit, version: 1, first: 2,
		objects: make(map[*resource]map[key]*record),
	}
}

func (st *store) get(res *resource, k key) (*record, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	rec, ok := st.objects[res][k]
	return rec, ok
}

// list returns the records of a namespace, "" meaning all, in order, and the
// version they are of.
func (st *store) list(res *resource, namespace string) ([]*record, uint64) {
	st.mu.Lock()
	recs := make([]*record, 0, len(st.objects[res]))
	for k, rec := range st.objects[res] {
		if namespace == "" || k.namespace == namespace {
			recs = append(recs, rec)
		}
	}
	version := st.version
	st.mu.Unlock()
	slices.SortFunc(recs, func(a, b *record) int {
		return key{a.namespace, a.name}.compare(key{b.namespace, b.name})
	})
	return recs, version
}

// create stores a new object.
func (st *store) create(res *resource, o object) (*record, error) {
	meta := metaOf(o)
	meta["uid"] = uuid.NewString()
	meta["creationTimestamp"] = time.Now().UTC().Format(time.RFC3339)
	meta["generation"] = 1
	st.mu.Lock()
	defer st.mu.Unlock()
	k := key{str(meta, "namespace"), str(meta, "name")}
	if _, ok := st.objects[res][k]; ok {
		return nil, alreadyExists(res, k.name)
	}
	return st.putLocked(res, k, o, "ADDED")
}

// update replaces an object by what change makes of it, and creates none.
func (st *store) update(res *resource, k key, change func(object) (object, error)) (*record, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	old, ok := st.objects[res][k]
	if !ok {
		return nil, notFound(res, k.name)
	}
	o, err := change(old.decode())
	if err != nil {
		return nil, err
	}
	was, meta := metaOf(old.decode()), metaOf(o)
	if v := str(meta, "resourceVersion"); v != "" && v != str(was, "resourceVersion") {
		return nil, conflict(res, k.name)
	}
	for _, field := range []string{"uid", "creationTimestamp", "name", "namespace", "generation"} {
		if v, ok := was[field]; ok {
			meta[field] = v
		}
	}
	if same(old.decode(), o) {
		return old, nil
	}
	if !same(old.decode()["spec"], o["spec"]) {
		meta["generation"] = number(was["generation"]) + 1
	}
	return st.putLocked(res, k, o, "MODIFIED")
}

// remove deletes an object and returns what it was.
func (st *store) remove(res *resource, k key) (*record, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	old, ok := st.objects[res][k]
	if !ok {
		return nil, notFound(res, k.name)
	}
	o := old.decode()
	delete(st.objects[res], k)
	rec, err := st.recordLocked(res, k, o)
	if err != nil {
		return nil, err
	}
	st.noteLocked(change{kind: "DELETED", rec: rec, old: old})
	return rec, nil
}

func (st *store) putLocked(res *resource, k key, o object, kind string) (*record, error) {
	rec, err := st.recordLocked(res, k, o)
	if err != nil {
		return nil, err
	}
	if st.objects[res] == nil {
		st.objects[res] = make(map[key]*record)
	}
	old := st.objects[res][k]
	st.objects[res][k] = rec
	st.noteLocked(change{kind: kind, rec: rec, old: old})
	return rec, nil
}

// recordLocked makes the next version of an object.
func (st *store) recordLocked(res *resource, k key, o object) (*record, error) {
	version := st.version + 1
	meta := metaOf(o)
	meta["resourceVersion"] = strconv.FormatUint(version, 10)
	o["kind"], o["apiVersion"] = res.kind, res.groupVersion()
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, badRequest(fmt.Sprintf("object is no JSON: %v", err))
	}
	st.version = version
	return &record{
		res: res, namespace: k.namespace, name: k.name, labels: labelsOf(meta), version: version, raw: raw,
	}, nil
}

func (st *store) noteLocked(c change) {
	if len(st.history) == 0 {
		st.first = c.rec.version
	}
	st.history = append(st.history, c)
	if drop := len(st.history) - st.limit; drop > st.limit/2 { // now and then, not each time
		st.history = slices.Clone(st.history[drop:])
		st.first += uint64(drop)
	}
	st.changed.Wake()
}

func (st *store) forget() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.history = nil
	st.version++ // so that the newest known version is too old as well
	st.first = st.version + 1
}

// since returns the changes after a version and a channel that is closed when
// there are more. It reports whether the version is not too old.
func (st *store) since(version uint64) (changes []change, now uint64, more <-chan struct{}, ok bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if version+1 < st.first {
		return nil, st.version, nil, false
	}
	if i := version + 1 - st.first; i < uint64(len(st.history)) {
		changes = slices.Clone(st.history[i:])
	}
	return changes, st.version, st.changed.Changed(), true
}
