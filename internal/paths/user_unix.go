//go:build !windows

package paths

import (
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
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

func owned(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int64(st.Uid) == int64(os.Getuid())
}

func open(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 != 0 }
