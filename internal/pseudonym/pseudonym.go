// Package pseudonym makes names that stand for others: the same one always for the
// same name, and of no use to whoever lacks the key. The key belongs to one
// installation and never leaves it, so that the pseudonyms of two cannot be joined,
// and no list of likely names can be tried out on them.
package pseudonym

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"berth/internal/atomicfile"
)

// Key is a key of an installation.
type Key [32]byte

// BrokenPath is where a damaged key is set aside.
func BrokenPath(path string) string { return path + ".broken" }

// errDamaged says that a file is no key.
var errDamaged = errors.New("it is damaged")

// Load returns the key in a file, and makes one where there is none. A damaged key can
// name nothing as it did: it is set aside, and anew says that another one takes its
// place. Others who may read the file lose that right.
func Load(path string) (k Key, anew bool, err error) {
	k, err = Read(path)
	switch {
	case err == nil:
		return k, false, nil
	case errors.Is(err, errDamaged):
		if err := setAside(path); err != nil {
			return Key{}, false, fmt.Errorf("pseudonyms: %w", err)
		}
		anew = true
	case !errors.Is(err, fs.ErrNotExist):
		return Key{}, false, err
	}
	k, err = Rotate(path)
	return k, anew, err
}

// setAside keeps what is in the place of a key beside it.
func setAside(path string) error {
	if err := os.RemoveAll(BrokenPath(path)); err != nil {
		return err
	}
	return os.Rename(path, BrokenPath(path))
}

// Read returns the key in a file, which must be there.
func Read(path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return Key{}, fmt.Errorf("pseudonyms: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	var k Key
	switch {
	case err != nil:
	case !info.Mode().IsRegular() || info.Size() != int64(len(k)):
		err = errDamaged
	default:
		_, err = io.ReadFull(f, k[:])
	}
	if err == nil && runtime.GOOS != "windows" {
		err = keepFromOthers(f)
	}
	if err != nil {
		return Key{}, fmt.Errorf("pseudonyms: %s: %w", f.Name(), err)
	}
	return k, nil
}

// keepFromOthers gives a file the mode that Rotate makes it with.
func keepFromOthers(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	return f.Chmod(0o600)
}

// Rotate replaces the key: what was named with the old one is never named so again.
func Rotate(path string) (Key, error) {
	var k Key
	_, _ = rand.Read(k[:]) // never fails
	if err := atomicfile.Write(path, k[:], 0o600); err != nil {
		return Key{}, fmt.Errorf("pseudonyms: %w", err)
	}
	return k, nil
}

// Of returns what stands for a name of some sort, sixteen hexadecimal digits. The
// same name has another pseudonym in each sort.
func (k Key) Of(sort, name string) string {
	mac := hmac.New(sha256.New, k[:])
	_, _ = io.WriteString(mac, sort+"\x00"+name) // never fails
	return hex.EncodeToString(mac.Sum(nil)[:8])
}
