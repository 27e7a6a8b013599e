//go:build !windows

package paths

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

func userID() (string, error) { return strconv.Itoa(os.Getuid()), nil }

// passwdHome is the home folder that the user database names.
func passwdHome() (string, error) {
	u, err := user.Current()
	if err != nil {
		return "", err
	}
	return u.HomeDir, nil
}

// readOnly reports whether the file cannot be made: the nearest folder above it
// that is there cannot be written.
func readOnly(path string) bool {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		err := unix.Access(dir, unix.W_OK)
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return err != nil
		}
	}
}

func owned(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int64(st.Uid) == int64(os.Getuid())
}

func open(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 != 0 }
