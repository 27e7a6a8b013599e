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

// record describes the last merge.
type record struct {
	Path    string `json:"path"`
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

// Merge puts the contexts into the file, in place of those it put there
// before; the current context stays what it is. A copy of the former content
// is kept beside the file.
func (m Merger) Merge(ctx context.Context, contexts []Context) (Result, error) {
	var res Result
	err := m.edit(ctx, func(path string, data []byte, there bool) ([]byte, bool, error) {
		res = Result{Path: path}
		doc, err := parse(data)
		if err != nil {
			return nil, false, err
		}
		had := names(doc)
		for _, c := range contexts {
			if name := ContextName(c.Name); !slices.Contains(had, name) && taken(doc, name) {
				return nil, false, fmt.Errorf("context %s: %w", name, ErrForeign)
			}
			res.Added = append(res.Added, ContextName(c.Name))
		}
		res.Removed = slices.DeleteFunc(slices.Clone(had), func(n string) bool { return slices.Contains(res.Added, n) })
		res.Added = slices.DeleteFunc(res.Added, func(n string) bool { return slices.Contains(had, n) })
		removeNamed(doc, res.Removed)
		add(doc, contexts)
		merged := encode(doc)
		if bytes.Equal(merged, data) || len(contexts) == 0 && len(res.Removed) == 0 {
			return nil, false, nil
		}
		res.Changed = true
		res.Backup, err = m.remember(path, data, merged, there)
		return merged, true, err
	})
	return res, err
}

// remember keeps the former content, unless it is berth's own last work.
func (m Merger) remember(path string, data, merged []byte, there bool) (backup string, err error) {
	rec := record{Path: path, Merged: hash(merged), Created: !there}
	old, ok := m.load()
	switch {
	case ok && old.Path == path && old.Merged == hash(data):
		rec.Backup, rec.Created = old.Backup, old.Created
	case there:
		rec.Backup = path + backupSuffix
		if err := atomicfile.Write(rec.Backup, data, 0o600); err != nil {
			return "", fmt.Errorf("keep a copy: %w", err)
		}
	}
	raw, err := json.Marshal(rec)
	if err != nil {
		return "", err
	}
	return rec.Backup, atomicfile.Write(m.Record, raw, 0o600)
}

func (m Merger) load() (record, bool) {
	var rec record
	raw, err := os.ReadFile(m.Record)
	return rec, err == nil && json.Unmarshal(raw, &rec) == nil
}

// Undo takes berth's contexts out of the file. If the file has not changed since
// the merge, Undo restores its former content to the byte.
func (m Merger) Undo(ctx context.Context) (Result, error) {
	var res Result
	spent := ""
	err := m.edit(ctx, func(path string, data []byte, there bool) ([]byte, bool, error) {
		res = Result{Path: path}
		doc, err := parse(data)
		if err != nil {
			return nil, false, err
		}
		res.Removed = names(doc)
		if !there || len(res.Removed) == 0 {
			return nil, false, ErrNothing
		}
		// The copy from before the merge is only right while the file is as
		// the merge left it; later edits of the user's must survive.
		res.Changed = true
		rec, ok := m.load()
		if ok && rec.Path == path && rec.Merged == hash(data) {
			if rec.Created {
				return nil, true, nil
			}
			if was, err := os.ReadFile(rec.Backup); err == nil && pristine(was) {
				spent = rec.Backup
				return was, true, nil
			}
		}
		removeNamed(doc, res.Removed)
		return encode(doc), true, nil
	})
	if err != nil {
		return res, err
	}
	for _, done := range []string{m.Record, spent} {
		if err := os.Remove(done); done != "" && err != nil && !errors.Is(err, fs.ErrNotExist) {
			return res, err
		}
	}
	return res, nil
}

// pristine reports whether a kubeconfig has nothing of berth's.
func pristine(data []byte) bool {
	doc, err := parse(data)
	return err == nil && len(names(doc)) == 0
}

// A change makes the next content of the file at path, which is there or not, and
// reports whether to write it. Nil content to write means to remove the file.
type change func(path string, data []byte, there bool) (next []byte, write bool, err error)

// edit applies the change under the lock that kubectl takes too. It starts again
// when a program that knows no locks has written the file meanwhile.
func (m Merger) edit(ctx context.Context, change change) error {
	path, err := atomicfile.Resolve(m.Path)
	if err != nil {
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
		data, mode, there, err := read(path)
		if err != nil {
			return err
		}
		next, write, err := change(path, data, there)
		if err != nil || !write {
			return err
		}
		if err := check(data, next); err != nil {
			return err
		}
		if mode&0o200 == 0 {
			return fmt.Errorf("%s: %w", path, ErrReadOnly)
		}
		if now, _, _, err := read(path); err != nil || !bytes.Equal(now, data) {
			continue // a program that knows no locks saved it meanwhile
		}
		if next == nil {
			return os.Remove(path)
		}
		return atomicfile.Write(path, next, mode)
	}
	return fmt.Errorf("%s: %w", path, ErrBusy)
}

func read(path string) (data []byte, mode fs.FileMode, there bool, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0o600, false, nil
	}
	if err != nil {
		return nil, 0, false, err
	}
	data, err = os.ReadFile(path)
	return data, info.Mode().Perm(), true, err
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

func removeNamed(doc *yaml.Node, gone []string) {
	for _, list := range []string{"clusters", "users", "contexts"} {
		if seq := get(doc, list); seq != nil && seq.Kind == yaml.SequenceNode {
			seq.Content = slices.DeleteFunc(seq.Content, func(e *yaml.Node) bool {
				return slices.Contains(gone, text(get(e, "name")))
			})
		}
	}
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
