package demo

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"berth/internal/simcluster/faketsh"
)

// tshMark is a file that stands beside the demo's tsh, and beside no other.
const tshMark = ".berth-demo-tsh"

// ServeAsTSH runs the simulated tsh, and does not return, if this program was
// started as the tsh of a demo: a link to it in the demo's own folder. Every
// main of a program that runs a demo begins with it.
func ServeAsTSH() {
	_, err := os.Stat(filepath.Join(filepath.Dir(os.Args[0]), tshMark))
	if err != nil || !faketsh.Invoked(os.Args[0], nil) {
		return
	}
	os.Exit(faketsh.Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)) //nolint:forbidigo // it is a main
}

// makeTSH makes this program the tsh of the demo, so that logins can be tried
// without Teleport's, and returns its path.
func (d *demo) makeTSH() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	dir := filepath.Join(d.dir, "bin")
	path := filepath.Join(dir, "tsh")
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the folder of the demo's tsh: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, tshMark), nil, 0o600); err != nil {
		return "", fmt.Errorf("make the demo's tsh: %w", err)
	}
	if os.Symlink(self, path) == nil || os.Link(self, path) == nil {
		return path, nil
	}
	// On Windows the one needs a right, and the other the same volume.
	if err := copyProgram(self, path); err != nil {
		return "", fmt.Errorf("make the demo's tsh: %w", err)
	}
	return path, nil
}

func copyProgram(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()                                                      //nolint:errcheck // it is only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700) //nolint:gosec // G302: a program, for its user alone
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
