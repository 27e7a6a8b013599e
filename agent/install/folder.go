package install

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// What a folder of keys may hold is bounded: it may have been filled by others.
const (
	maxFile  = 1 << 20
	maxFiles = 10_000
)

// folder is a picture of a keys/PROXY folder: what stands at each path below
// it. Two pictures are equal when nothing has changed between them.
type folder map[string]entry

// entry is one file or folder.
type entry struct {
	mode fs.FileMode
	sum  [sha256.Size]byte // of a file's content
	size int64
	time int64 // of a file: when it was last written
}

// readFolder takes a picture of dir; a missing dir is empty. A file that
// vanishes meanwhile makes the error [errDisturbed].
func readFolder(dir string) (folder, error) {
	f := folder{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if path == dir {
			if errors.Is(err, fs.ErrNotExist) {
				return fs.SkipAll
			}
			return err
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if len(f) == maxFiles {
			return fmt.Errorf("it holds more than %d files", maxFiles)
		}
		f[rel], err = readEntry(path)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errDisturbed
	}
	if err != nil {
		return nil, fmt.Errorf("read folder %q: %w", dir, err)
	}
	return f, nil
}

func readEntry(path string) (entry, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return entry{}, err
	}
	e := entry{mode: info.Mode()}
	if info.IsDir() {
		return e, nil
	}
	e.size, e.time = info.Size(), info.ModTime().UnixNano()
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return e, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrPermission) {
		return e, nil // it can still be linked
	}
	e.sum = sha256.Sum256(data)
	return e, err
}

// paths returns the paths in f, folders before what is in them.
func (f folder) paths() []string { return slices.Sorted(maps.Keys(f)) }

// same reports whether nothing has changed between two pictures.
func (f folder) same(g folder) bool { return maps.Equal(f, g) }

// ownership says to whom the entries of a keys/PROXY folder belong.
type ownership struct{ user string }

// session reports whether the path is part of the user's session: its keys,
// its certificates and what was issued for them.
func (o ownership) session(path string, e entry) bool {
	top, _, below := strings.Cut(path, string(filepath.Separator))
	rest, ok := strings.CutPrefix(top, o.user)
	switch {
	case !ok:
		return false
	case below || e.mode.IsDir():
		return rest == sshSuffix || slices.Contains(resourceSuffixes, rest)
	default:
		return slices.Contains([]string{
			"", pubSuffix, keySuffix, keySuffix + tshLockSuffix, crtSuffix, x509Suffix, ppkSuffix,
		}, rest)
	}
}

// resourceFile reports whether the path is in a folder of certificates for
// single resources.
func (o ownership) resourceFile(path string) bool {
	top, _, below := strings.Cut(path, string(filepath.Separator))
	rest, ok := strings.CutPrefix(top, o.user)
	return ok && below && slices.Contains(resourceSuffixes, rest)
}

// resource reports whether the path is a certificate for a single resource, or
// something that works only with it. Kubeconfigs and the CAs of local proxies
// are not: a running "tsh proxy" goes on with them.
func (o ownership) resource(path string, e entry) bool {
	if e.mode.IsDir() || !o.resourceFile(path) {
		return false
	}
	base := filepath.Base(path)
	inWallet := strings.HasSuffix(filepath.Dir(path), "-wallet")
	return inWallet || !strings.HasSuffix(base, "-kubeconfig") && !strings.HasSuffix(base, "localca.pem")
}

// rank orders the files of a session as tsh writes them: who reads meanwhile
// where there is no exchange, or looks at the times, finds what tsh would leave.
func (o ownership) rank(path string) int {
	top, _, _ := strings.Cut(path, string(filepath.Separator))
	if top == casName || top == allCAsName {
		return 0
	}
	order := []string{keySuffix, crtSuffix, "", pubSuffix, x509Suffix, sshSuffix}
	rest, ok := strings.CutPrefix(top, o.user)
	if i := slices.Index(order, rest); ok && i >= 0 {
		return 2 + i
	}
	return 1
}

// ordered returns paths in the order of writing.
func (o ownership) ordered(paths []string) []string {
	return slices.SortedFunc(slices.Values(paths), func(a, b string) int {
		if d := o.rank(a) - o.rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
}

// verdict says what stands in a folder between two sessions.
type verdict int

const (
	isNew   verdict = iota // exactly the new session
	isOurs                 // the old session, or pieces of both
	foreign                // something that is of neither
)

// judge says what the keys and certificates of the user are now.
func (o ownership) judge(now, old, fresh folder) verdict {
	same := true
	for path := range fresh {
		if _, ok := now[path]; !ok && o.core(path, fresh[path]) {
			same = false
		}
	}
	for path, e := range now {
		if !o.core(path, e) || e.sameFile(fresh[path]) {
			continue
		}
		same = false
		if !e.sameFile(old[path]) {
			return foreign
		}
	}
	if same {
		return isNew
	}
	return isOurs
}

// core reports whether the path is a key of the user, or a certificate that is
// not for a single resource.
func (o ownership) core(path string, e entry) bool {
	return e.mode.IsRegular() && o.session(path, e) && !o.resourceFile(path) &&
		!strings.HasSuffix(path, tempSuffix) && !isLock(path)
}

// isLock reports whether the path is of a file that is only there to be locked.
func isLock(path string) bool {
	return strings.HasSuffix(path, ".lock") || strings.HasSuffix(path, tshLockSuffix)
}

// sameFile reports whether both are regular files with the same content.
func (e entry) sameFile(f entry) bool {
	return e.mode.IsRegular() && f.mode.IsRegular() && e.sum == f.sum
}
