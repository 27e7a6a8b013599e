package simkube

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxFiles is how many bytes a pod's files may have.
const maxFiles = 256 << 20

// files are the files in the pods.
type files struct {
	mu   sync.Mutex
	pods map[key]map[string]*file
}

type file struct {
	data     []byte
	dir      bool
	mode     int64
	modified time.Time
}

func newFiles() *files { return &files{pods: make(map[key]map[string]*file)} }

func (f *files) forget(k key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.pods, k)
}

// podLocked returns a pod's files; each has a few to begin with.
func (f *files) podLocked(k key) map[string]*file {
	if f.pods[k] == nil {
		now := time.Now()
		f.pods[k] = map[string]*file{
			"/":             {dir: true, mode: 0o755, modified: now},
			"/etc":          {dir: true, mode: 0o755, modified: now},
			"/tmp":          {dir: true, mode: 0o777, modified: now},
			"/etc/hostname": {data: []byte(k.name + "\n"), mode: 0o644, modified: now},
		}
	}
	return f.pods[k]
}

func absolute(name string) string { return path.Clean("/" + name) }

func (f *files) read(k key, name string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, ok := f.podLocked(k)[absolute(name)]
	switch {
	case !ok:
		return nil, errors.New(name + ": No such file or directory")
	case file.dir:
		return nil, errors.New(name + ": Is a directory")
	default:
		return file.data, nil
	}
}

func (f *files) isDir(k key, name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, ok := f.podLocked(k)[absolute(name)]
	return ok && file.dir
}

func (f *files) exists(k key, name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.podLocked(k)[absolute(name)]
	return ok
}

// write stores a file and the folders above it.
func (f *files) write(k key, name string, added *file) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.podLocked(k)
	size := len(added.data)
	for _, other := range all {
		size += len(other.data)
	}
	if size > maxFiles {
		return errors.New(name + ": No space left on device")
	}
	name = absolute(name)
	all[name] = added
	for dir := path.Dir(name); all[dir] == nil; dir = path.Dir(dir) {
		all[dir] = &file{dir: true, mode: 0o755, modified: added.modified}
	}
	return nil
}

// below returns the names of a file and of all that is in it, in order.
func (f *files) below(k key, name string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	name = absolute(name)
	var names []string
	for n := range f.podLocked(k) {
		if n == name || strings.HasPrefix(n, strings.TrimSuffix(name, "/")+"/") {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// pack writes files as a tar archive, their names as they were asked for.
func (f *files) pack(k key, w io.Writer, names []string) error {
	tw := tar.NewWriter(w)
	for _, asked := range names {
		found := f.below(k, asked)
		if len(found) == 0 {
			return fmt.Errorf("tar: %s: Cannot stat: No such file or directory", asked)
		}
		for _, n := range found {
			f.mu.Lock()
			file := f.podLocked(k)[n]
			f.mu.Unlock()
			if file == nil {
				continue // deleted meanwhile
			}
			h := &tar.Header{Name: strings.TrimPrefix(n, "/"), Mode: file.mode, ModTime: file.modified, Typeflag: tar.TypeReg}
			if file.dir {
				h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
			} else {
				h.Size = int64(len(file.data))
			}
			if err := tw.WriteHeader(h); err != nil {
				return err
			}
			if _, err := tw.Write(file.data); err != nil {
				return err
			}
		}
	}
	return tw.Close()
}

// unpack stores what is in a tar archive below dir.
func (f *files) unpack(k key, r io.Reader, dir string) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r) // the padding at the end
			return err
		}
		if err != nil {
			return fmt.Errorf("tar: %w", err)
		}
		added := &file{dir: h.Typeflag == tar.TypeDir, mode: h.Mode, modified: h.ModTime}
		if added.data, err = io.ReadAll(io.LimitReader(tr, maxFiles+1)); err != nil {
			return fmt.Errorf("tar: %w", err)
		}
		if err := f.write(k, path.Join(dir, h.Name), added); err != nil {
			return fmt.Errorf("tar: %w", err)
		}
	}
}
