package ipc

import "path/filepath"

// Address returns where the agent listens whose run-time files are in dir: a
// Unix socket in it, or a named pipe on Windows. Pipe names are one flat space
// for the whole machine, so the name carries the user's SID and a hash of dir.
func Address(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	sid, err := selfUID()
	if err != nil {
		return "", err
	}
	return `\\.\pipe\berth-` + sid + "-" + shortHash(dir), nil
}
