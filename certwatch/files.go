package certwatch

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gravitational/teleport/api/utils/keypaths"
)

// A home may hold rubbish: what is read of it is bounded.
const (
	maxFileSize = 1 << 20
	maxEntries  = 256 // files of a kind, in one folder of a profile
)

// maxProfiles is how many profiles of a home are looked at. Who works for many
// customers has hundreds.
const maxProfiles = 4096

// clockSkew is by how much a file server's clock may be ahead of ours for the
// times it gives to files to be of use.
const clockSkew = time.Second

// content is the result of reading a file.
type content struct {
	path string
	data []byte
	mod  time.Time
	err  error // fs.ErrNotExist when there is no such file
}

func (c content) missing() bool { return errors.Is(c.err, fs.ErrNotExist) }

// exhausted reports whether reading failed because too many files are open, or memory
// is short: that says nothing about the files.
func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// readFile reads a regular file of bounded size. It never blocks on a pipe.
func readFile(path string) content {
	c := content{path: path}
	info, err := os.Stat(path)
	if err != nil {
		c.err = err
		return c
	}
	if !info.Mode().IsRegular() {
		c.err = fmt.Errorf("read %q: it is not a regular file", path)
		return c
	}
	f, err := openShared(path)
	if err != nil {
		c.err = err
		return c
	}
	defer f.Close()
	c.data, c.err = io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if c.err == nil && len(c.data) > maxFileSize {
		c.data, c.err = nil, fmt.Errorf("read %q: it is larger than %d bytes", path, maxFileSize)
	}
	if info, err := f.Stat(); err == nil { // after the read: a write meanwhile shows
		c.mod = info.ModTime()
	}
	return c
}

// profileFiles is everything a profile is made of, as found at one moment.
type profileFiles struct {
	home, name string
	readAt     time.Time // when the reading ended

	yaml     content
	parsed   profileFile
	parseErr error // of yaml; the rest is not read then

	key, pub, x509 content // v16: U, U.pub, U-x509.pem; U and U.pub are the SSH key in v17
	tlsKey, crt    content // v17
	sshCerts       map[string]content
	cas            map[string]content
	allCAs         content // certs.pem

	dirMod time.Time // when a name in the key folders last came or went

	exhausted bool // a file or folder could not be read, see exhausted
}

// readProfile reads all files of a profile.
func readProfile(home, name string) *profileFiles {
	r := &profileFiles{home: home, name: name}
	defer func() {
		r.readAt = time.Now() // so that a write meanwhile is of the past
		r.each(func(c content) { r.exhausted = r.exhausted || exhausted(c.err) })
	}()
	r.yaml = readFile(keypaths.ProfileFilePath(home, name))
	if r.yaml.err != nil {
		return r
	}
	if r.parsed, r.parseErr = parseProfile(r.yaml.data); r.parseErr != nil {
		return r
	}
	user := r.parsed.User
	r.key = readFile(keypaths.UserSSHKeyPath(home, name, user))
	r.pub = readFile(keypaths.PublicKeyPath(home, name, user))
	r.x509 = readFile(keypaths.TLSCertPathLegacy(home, name, user))
	r.tlsKey = readFile(keypaths.UserTLSKeyPath(home, name, user))
	r.crt = readFile(keypaths.TLSCertPath(home, name, user))
	sshDir, casDir := keypaths.SSHDir(home, name, user), keypaths.CAsDir(home, name)
	r.sshCerts = r.readFolder(sshDir, "-cert.pub")
	r.cas = r.readFolder(casDir, ".pem")
	r.allCAs = readFile(keypaths.TLSCAsPath(home, name))
	for _, dir := range []string{keypaths.ProxyKeyDir(home, name), sshDir, casDir} {
		if info, err := os.Stat(dir); err == nil && info.ModTime().After(r.dirMod) {
			r.dirMod = info.ModTime()
		}
	}
	return r
}

// readFolder reads the files in dir with the suffix, by name without it.
func (r *profileFiles) readFolder(dir, suffix string) map[string]content {
	entries, err := os.ReadDir(dir)
	if err != nil {
		r.exhausted = r.exhausted || exhausted(err)
		return nil // the files in it are then missing, which is judged
	}
	files := map[string]content{}
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), suffix)
		if !ok || len(files) == maxEntries {
			continue
		}
		if c := readFile(filepath.Join(dir, entry.Name())); !c.missing() {
			files[name] = c
		}
	}
	return files
}

// each calls f for every file, in a fixed order.
func (r *profileFiles) each(f func(content)) {
	for _, c := range []content{r.yaml, r.key, r.pub, r.x509, r.tlsKey, r.crt, r.allCAs} {
		f(c)
	}
	for _, folder := range []map[string]content{r.sshCerts, r.cas} {
		for _, name := range sortedNames(folder) {
			f(folder[name])
		}
	}
}

// A digest identifies the content of a set of files.
type digest [sha256.Size]byte

// digests returns one digest of what the files say, and one of that together
// with when they were written.
func (r *profileFiles) digests() (what, when digest) {
	sum := sha256.New()
	var times strings.Builder
	r.each(func(c content) {
		fmt.Fprintf(sum, "%q %v %d:", c.path, c.err, len(c.data))
		sum.Write(c.data)
		fmt.Fprintf(&times, "%d ", c.mod.UnixNano())
	})
	what = digest(sum.Sum(nil))
	return what, sha256.Sum256(append(what[:], times.String()...))
}

// newest returns when a file of the profile was last written, made or removed.
func (r *profileFiles) newest() time.Time {
	newest := r.dirMod
	r.each(func(c content) {
		if c.mod.After(newest) {
			newest = c.mod
		}
	})
	return newest
}

// younger reports whether t is less than d before the reading. A time well in
// the future, from a file server's clock or before ours was set, says nothing.
func (r *profileFiles) younger(t time.Time, d time.Duration) bool {
	age := r.readAt.Sub(t)
	return age > -clockSkew && age < d
}
