//go:build unix

package selftest

import (
	"io/fs"
	"os"
	"syscall"
)

// own reports whether a folder is this user's: in the temporary files anyone can make
// one.
func own(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
