//go:build !windows

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"berth/internal/shell"
	"berth/proxies/kube/kubeconfig"
)

const maxKeys = 20_000 // files of a home that are looked at

// private is a file or folder that only its owner should have access to.
type private struct {
	path   string
	folder bool
	secret bool // others can read what they must not
}

// checkFiles looks at who else may read and write what is berth's and tsh's.
func (d *doctor) checkFiles(ctx context.Context) []Finding {
	p := d.Paths
	files := []private{
		{path: p.StateDir, folder: true, secret: true}, {path: p.StateFile}, {path: p.LogFile}, {path: p.Socket, secret: true},
		{path: p.Config}, {path: kubeconfig.Path(p.StateDir), secret: true},
	}
	if dir := p.SocketDir(); dir != "" {
		files = append(files, private{path: dir, folder: true, secret: true})
	}
	for _, file := range kubeconfig.Merged(d.Env("KUBECONFIG"), d.Env("HOME"), kubeconfig.RecordPath(p.StateDir)) {
		if file != kubeconfig.Path(p.StateDir) {
			files = append(files, private{path: file, secret: true})
		}
	}
	if homes, err := d.homePaths(ctx); err == nil {
		for _, home := range homes {
			files = append(files, private{path: home, folder: true, secret: true})
			files = append(files, keyFiles(ctx, home)...)
		}
	}
	var found []Finding
	for _, f := range files {
		found = append(found, f.look()...)
	}
	if found == nil {
		return one("files", OK, "file permissions are private", "")
	}
	return found
}

// keyFiles are the private keys and certs of a home. The CAs beside them are
// no secret.
func keyFiles(ctx context.Context, home string) []private {
	var files []private
	_ = filepath.WalkDir(filepath.Join(home, "keys"), func(path string, entry fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil || len(files) >= maxKeys:
			return fs.SkipAll
		case err != nil:
			return fs.SkipDir // the homes' own check tells what cannot be read
		case entry.IsDir() && entry.Name() == "cas":
			return fs.SkipDir
		case entry.Type().IsRegular() && entry.Name() != "certs.pem" && filepath.Ext(path) != ".pub" && entry.Name() != "known_hosts":
			files = append(files, private{path: path, secret: true})
		}
		return nil
	})
	return files
}

// look finds what is wrong with the file; a missing file is fine.
func (f private) look() []Finding {
	info, err := os.Lstat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return one("files", Fail, err.Error(), "")
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return nil // its owner put it there; what it leads to is not ours to judge
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Getuid() {
		return one("files", Fail, f.path+" belongs to another user", shell.Quote("sudo", "chown", strconv.Itoa(os.Getuid()), f.path))
	}
	open := info.Mode().Perm() & 0o077
	if open == 0 {
		return nil
	}
	want := info.Mode().Perm() &^ 0o077
	status := Warn
	if f.secret || open&0o022 != 0 {
		status = Fail
	}
	return []Finding{{
		Check: "files", Name: "files:" + f.path, Status: status, Text: fmt.Sprintf("other users have access to %s (mode %04o)", f.path, info.Mode().Perm()),
		Fix:    shell.Quote("chmod", fmt.Sprintf("%04o", want), f.path),
		repair: func(context.Context) (string, error) { return closeToOthers(f.path, info, want) },
	}}
}

// closeToOthers changes the mode of the file that was looked at, and of no
// other that was put into its place since.
func closeToOthers(path string, seen fs.FileInfo, mode fs.FileMode) (string, error) {
	now, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if !os.SameFile(seen, now) || now.Mode()&fs.ModeSymlink != 0 {
		return "", fmt.Errorf("%s is another file now", path)
	}
	if err := os.Chmod(path, mode); err != nil {
		return "", err
	}
	return fmt.Sprintf("set the mode of %s to %04o", path, mode), nil
}
