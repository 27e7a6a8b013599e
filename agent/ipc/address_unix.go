//go:build unix

package ipc

import (
	"os"
	"path/filepath"
	"strconv"
)

// maxSocketPath is what fits everywhere: sun_path holds 104 bytes with its
// final zero on macOS and the BSDs, 108 on Linux.
const maxSocketPath = 103

// Address returns where the agent listens whose run-time files are in dir: a
// Unix socket in it, or a named pipe on Windows.
//
// A path too long for a socket, as a deep BERTH_HOME makes it, is replaced by
// one under /tmp that depends on dir and the user alone, so that the agent and
// its front ends agree whatever their TMPDIR. [Listen] checks that folder like
// any other.
func Address(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if path := filepath.Join(dir, "agent.sock"); len(path) <= maxSocketPath {
		return path, nil
	}
	folder := "/tmp/berth-" + strconv.Itoa(os.Geteuid())
	return filepath.Join(folder, shortHash(dir)+".sock"), nil
}
