package atomicfile

import (
	"errors"
	"io/fs"
	"os"
)

// readMax bounds the files that Read reads: no client's own is nearly as large.
const readMax = 16 << 20

// ErrForeign says that a path leads to what must not be replaced by a file: a
// device, a pipe, a folder, or a file of a size that no client's has.
var ErrForeign = errors.New("it is no file that a client would have written")

// stat returns what is at path, or ErrForeign. It opens nothing: to open a pipe
// is to wait for whoever writes into it.
func stat(path string) (fs.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > readMax {
		return nil, ErrForeign
	}
	return info, nil
}

// Read reads a file of another program's that Write may replace, or returns
// ErrForeign.
func Read(path string) ([]byte, fs.FileInfo, error) {
	info, err := stat(path)
	if err != nil {
		return nil, nil, err
	}
	data, err := os.ReadFile(path)
	return data, info, err
}
