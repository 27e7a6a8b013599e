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

// Load returns the key in a file, and makes one where there is none. Others who may
// read the file lose that right.
func Load(path string) (Key, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Rotate(path)
	case err != nil:
		return Key{}, fmt.Errorf("pseudonyms: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	var k Key
	n, err := io.ReadFull(f, k[:])
	if info, statErr := f.Stat(); err == nil && statErr == nil && info.Size() != int64(n) {
		err = errors.New("its size is wrong")
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
