package kubeconfig

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"berth/internal/atomicfile"
	"berth/internal/wake"
)

// backupSuffix ends the name of the copy that a merge leaves beside the file.
const backupSuffix = ".berth-backup"

const (
	// lockWait is how long another program may be at work on the file.
	lockWait = 3 * time.Second
	lockPoll = 50 * time.Millisecond
	// attempts is how often the file is read again because it changed meanwhile.
	attempts = 5
)

// Errors of Merge and Undo, besides BrokenError and those of the file system.
var (
	// ErrReadOnly says that the file is write-protected.
	ErrReadOnly = errors.New("the file is read-only")
	// ErrBusy says that another program is changing the file.
	ErrBusy = errors.New("another program is changing the file")
	// ErrForeign says that a name berth would use is in use for something else.
	ErrForeign = errors.New("the name is used for something else")
	// ErrNothing says that there is nothing to undo.
	ErrNothing = errors.New("there is nothing of berth's in the file")
)

// Target returns the file that kubectl would put new entries into: of those
// that KUBECONFIG lists the first one there is, else the last; without
// KUBECONFIG the one in home.
func Target(kubeconfig, home string) string {
	files := slices.DeleteFunc(filepath.SplitList(kubeconfig), func(f string) bool { return f == "" })
	if len(files) == 0 {
		return filepath.Join(home, ".kube", "config")
	}
	for _, f := range files {
		if _, err := os.Stat(f); err == nil {
			return f
		}
	}
	return files[len(files)-1]
}

// Merger puts berth's contexts into a kubeconfig that is not berth's, and
// takes them out again.
type Merger struct {
	// Path is the file; a symbolic link is followed, not replaced.
	Path string
	// Record is where to remember what was done, for Undo.
	Record string
}

// records are the last merge into each file, by the path of the file: links followed, from
// the root.
type records map[string]record

// record describes the last merge into a file.
type record struct {
	Backup  string `json:"backup"`  // empty: there was no file
	Merged  string `json:"merged"`  // hash of what was written
	Created bool   `json:"created"` // there was no file
}

// Result says what a merge or its undoing did.
type Result struct {
	Path    string   `json:"path"`    // the file, with links followed
	Backup  string   `json:"backup"`  // where its former content is; empty means nowhere
	Added   []string `json:"added"`   // names of contexts
	Removed []string `json:"removed"` // names of contexts
	Changed bool     `json:"changed"`
}

// ExposedError says that users other than its owner may read or change the file,
// which would hold a private key.
type ExposedError struct {
	Path string
	Mode fs.FileMode
}

func (e *ExposedError) Error() string {
	return fmt.Sprintf("%s would hold a private key, and other users have access to it (mode %04o)", e.Path, e.Mode)
}

// Merge puts the contexts into the file, in place of those it put there
// before; the current context stays what it is, and so does what others added
// to berth's entries. A copy of the former content is kept beside the file. A
// file that other users may read is refused, unless force says otherwise.
func (m Merger) Merge(ctx context.Context, contexts []Context, force bool) (Result, error) {
	res := Result{Path: m.Path}
	err := edit(ctx, m.Path, func(f file) (next, error) {
		res = Result{Path: f.path}
		doc, err := parse(f.data)
		if err != nil {
			return next{}, err
		}
		had := names(doc)
		for _, c := range contexts {
			name := ContextName(c.Name)
			ours := slices.Contains(had, name)
			if !ours && taken(doc, name) || entry(doc, "contexts", name) != nil && ownContext(doc, name) == nil {
				return next{}, fmt.Errorf("context %s: %w", name, ErrForeign)
			}
			res.Added = append(res.Added, name)
		}
		if f.there && f.exposed && len(contexts) > 0 && !force {
			return next{}, &ExposedError{Path: f.path, Mode: f.mode}
		}
		res.Removed = slices.DeleteFunc(slices.Clone(had), func(n string) bool { return slices.Contains(res.Added, n) })
		res.Added = slices.DeleteFunc(res.Added, func(n string) bool { return slices.Contains(had, n) })
		before := encode(doc)
		remove(doc, res.Removed)
		add(doc, contexts)
		merged := encode(doc)
		if bytes.Equal(merged, before) && f.there || len(contexts) == 0 && len(res.Removed) == 0 {
			return next{}, nil
		}
		res.Changed = true
		return next{write: true, data: merged, check: true, before: func() (err error) {
			res.Backup, err = m.remember(f.path, f.data, merged, f.there)
			return err
		}}, nil
	})
	if err != nil {
		res.Changed, res.Backup = false, ""
	}
	return res, err
}

// remember keeps the former content, unless it is berth's own last work.
func (m Merger) remember(path string, data, merged []byte, there bool) (backup string, err error) {
	rec, all := record{Merged: hash(merged), Created: !there}, m.load()
	old, ok := all[path]
	switch {
	case ok && old.Merged == hash(data):
		rec.Backup, rec.Created = old.Backup, old.Created
	case there:
		rec.Backup = path + backupSuffix
		if err := atomicfile.Write(rec.Backup, data, 0o600); err != nil {
			return "", fmt.Errorf("keep a copy: %w", err)
		}
	}
	all[path] = rec
	return rec.Backup, m.save(all)
}

// Merged returns the kubeconfigs that hold a private key of berth's, links
// followed: of those that KUBECONFIG lists, the usual one in home, and those
// that were merged into.
func Merged(kubeconfig, home, mergeRecord string) []string {
	files := append(filepath.SplitList(kubeconfig), filepath.Join(home, ".kube", "config"))
	files = append(files, slices.Sorted(maps.Keys((Merger{Record: mergeRecord}).load()))...)
	var merged []string
	for _, file := range files {
		path, err := filepath.EvalSymlinks(file)
		if err != nil || slices.Contains(merged, path) {
			continue
		}
		data, _, err := atomicfile.Read(path)
		if err != nil {
			continue
		}
		if doc, err := parse(data); err == nil && slices.ContainsFunc(names(doc), func(n string) bool {
			return get(get(entry(doc, "users", n), "user"), "client-key-data") != nil
		}) {
			merged = append(merged, path)
		}
	}
	return merged
}

// RecordPath is where berth remembers its merges, in its state folder.
func RecordPath(stateDir string) string { return filepath.Join(stateDir, "kubeconfig-merge.json") }

// load returns no records where they cannot be read: Undo manages without.
func (m Merger) load() records {
	all := make(records)
	raw, err := os.ReadFile(m.Record)
	if err != nil || json.Unmarshal(raw, &all) != nil || all == nil {
		return make(records)
	}
	return all
}

func (m Merger) save(all records) error {
	if len(all) == 0 {
		return removed(m.Record)
	}
	raw, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return atomicfile.Write(m.Record, raw, 0o600)
}

// removed removes a file that may not be there.
func removed(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Undo takes berth's contexts out of the file. If the file has not changed since
// the merge, Undo restores its former content to the byte.
func (m Merger) Undo(ctx context.Context) (Result, error) {
	res := Result{Path: m.Path}
	spent := ""
	err := edit(ctx, m.Path, func(f file) (next, error) {
		res = Result{Path: f.path}
		doc, err := parse(f.data)
		if err != nil {
			return next{}, err
		}
		res.Removed = names(doc)
		if !f.there || len(res.Removed) == 0 {
			return next{}, ErrNothing
		}
		// The copy from before the merge is only right while the file is as
		// the merge left it; later edits of the user's must survive.
		res.Changed = true
		if rec, ok := m.load()[f.path]; ok && rec.Merged == hash(f.data) {
			if rec.Created {
				return next{write: true, check: true}, nil
			}
			if was, err := os.ReadFile(rec.Backup); err == nil && pristine(was) {
				spent = rec.Backup
				return next{write: true, check: true, data: was}, nil
			}
		}
		remove(doc, res.Removed)
		return next{write: true, check: true, data: encode(doc)}, nil
	})
	if err != nil {
		return res, err
	}
	if all := m.load(); len(all) > 0 {
		delete(all, res.Path)
		if err := m.save(all); err != nil {
			return res, err
		}
	}
	if spent == "" {
		return res, nil
	}
	return res, removed(spent)
}

// pristine reports whether a kubeconfig has nothing of berth's.
func pristine(data []byte) bool {
	doc, err := parse(data)
	return err == nil && len(names(doc)) == 0
}

// file is a kubeconfig as it was found.
type file struct {
	path    string // with links followed
	data    []byte
	mode    fs.FileMode
	there   bool
	exposed bool // others may read or change it
}

// next is what is to become of a file.
type next struct {
	write  bool   // false: nothing
	data   []byte // nil: it is removed
	check  bool   // only what is berth's may change
	before func() error
	// private is for berth's own file: only its owner may read it.
	private bool
}

// edit changes the kubeconfig at name under the lock that kubectl takes too. It
// starts again when a program that knows no locks has written the file meanwhile.
func edit(ctx context.Context, name string, change func(file) (next, error)) error {
	path, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	if path, err = atomicfile.Resolve(path); err != nil {
		return err
	}
	if _, err := read(path); err != nil { // before there is a lock beside it
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	unlock, err := lock(ctx, path)
	if err != nil {
		return err
	}
	defer unlock()
	for range attempts {
		f, err := read(path)
		if err != nil {
			return err
		}
		n, err := change(f)
		if err != nil || !n.write {
			return err
		}
		if n.check {
			if err := check(f.data, n.data); err != nil {
				return err
			}
		}
		if n.private {
			f.mode = 0o600
		}
		if f.mode&0o200 == 0 {
			return fmt.Errorf("%s: %w", path, ErrReadOnly)
		}
		if now, err := read(path); err != nil || !bytes.Equal(now.data, f.data) {
			continue // a program that knows no locks saved it meanwhile
		}
		if n.before != nil {
			if err := n.before(); err != nil {
				return err
			}
		}
		if n.data == nil {
			return os.Remove(path)
		}
		return atomicfile.Write(path, n.data, f.mode)
	}
	return fmt.Errorf("%s: %w", path, ErrBusy)
}

func read(path string) (file, error) {
	f := file{path: path, mode: 0o600}
	data, info, err := atomicfile.Read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f, nil
	case errors.Is(err, atomicfile.ErrForeign):
		return f, &BrokenError{err}
	case err != nil:
		return f, err
	}
	f.data, f.mode, f.there, f.exposed = data, info.Mode().Perm(), true, Exposed(info)
	return f, nil
}

// lock makes the file that says that the kubeconfig at path is being changed,
// as Kubernetes' own tools do.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	name := path + ".lock"
	for end := time.Now().Add(lockWait); ; {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL, 0)
		if err == nil {
			return func() { _ = os.Remove(name) }, f.Close()
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("%w: %s is there; remove it if no program is", ErrBusy, name)
		}
		if !wake.Sleep(ctx, lockPoll) {
			return nil, ctx.Err()
		}
	}
}

// taken reports whether doc uses the name.
func taken(doc *yaml.Node, name string) bool {
	return cmp.Or(entry(doc, "contexts", name), entry(doc, "clusters", name), entry(doc, "users", name)) != nil
}

// remove takes berth's clusters, users and contexts of these names out of doc, the
// contexts under whatever name. Those of the user's own stay.
func remove(doc *yaml.Node, gone []string) {
	for _, list := range []string{"clusters", "users", "contexts"} {
		if seq := get(doc, list); seq != nil && seq.Kind == yaml.SequenceNode {
			seq.Content = slices.DeleteFunc(seq.Content, func(e *yaml.Node) bool {
				if list == "contexts" {
					return slices.ContainsFunc(gone, func(name string) bool { return isOwn(e, name) })
				}
				return slices.Contains(gone, text(get(e, "name")))
			})
		}
	}
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
