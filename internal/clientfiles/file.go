package clientfiles

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"berth/internal/atomicfile"
	"berth/internal/plain"
	"berth/internal/shell"
	"berth/proxies/db"
)

// backupSuffix ends the name of the copy that a change leaves beside the file;
// where there is one already a number follows.
const backupSuffix = ".berth-backup"

// A BrokenError says that a file was not touched because its client could not
// read it.
type BrokenError struct {
	Path string
	Err  error
}

func (e *BrokenError) Error() string { return fmt.Sprintf("%s was not touched: %v", e.Path, e.Err) }

// Unwrap returns the reason.
func (e *BrokenError) Unwrap() error { return e.Err }

// ErrChanged says that another program has written the file since it was read.
var ErrChanged = errors.New("another program has changed the file meanwhile")

// A File is a client's file on this machine.
type File struct {
	Client Client
	Path   string // a symbolic link is followed, not replaced
	// Named is the path where commands have to name it; empty: the client itself looks
	// there.
	Named string
	// Record is where to remember what each file was before berth's entries, for
	// an exact undo.
	Record string
}

// A Change is a new content of a file that is not written yet.
type Change struct {
	Path          string // with links followed
	Before, After []byte
	Remove        bool // the file did not exist before berth: it is removed again

	file  File
	mode  fs.FileMode
	there bool
	spent string // the copy that is the new content, and goes
}

// Changed reports whether there is anything to write.
func (c *Change) Changed() bool { return c.Remove || !bytes.Equal(c.Before, c.After) }

// record remembers what one file was before berth's entries.
type record struct {
	Client  string `json:"client"`
	Written string `json:"written"` // hash of what berth has written last
	Backup  string `json:"backup"`  // the copy from before; empty: there was no file
	Created bool   `json:"created"`
}

// Entries returns berth's entries in the file. A missing file has none.
func (f File) Entries() ([]Entry, error) {
	c, err := f.read()
	if err != nil {
		return nil, err
	}
	list, err := f.Client.Entries(c.Before)
	if err != nil {
		return nil, &BrokenError{c.Path, err}
	}
	return list, nil
}

// Others returns the client's other files that have entries of berth's.
func (f File) Others() []File {
	own, _ := atomicfile.Resolve(f.Path) // a file that leads nowhere is none of them
	var list []File
	for path, rec := range f.load() {
		if rec.Client == f.Client.Name && path != own {
			list = append(list, File{Client: f.Client, Path: path, Named: path, Record: f.Record})
		}
	}
	slices.SortFunc(list, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return list
}

// Use says how to use the entry for a tunnel.
func (f File) Use(tunnel string) string { return f.Client.use(tunnel, f.Named) }

// removal is the command that removes the entry for a tunnel, on one line.
func (f File) removal(tunnel string) string {
	argv := []string{"berth", "client", "rm", f.Client.Name, tunnel}
	if f.Named != "" {
		argv = append(argv, "--file", f.Named)
	}
	return plain.Line(shell.Quote(argv...))
}

// Add prepares an entry for a tunnel, in place of berth's former one.
func (f File) Add(proto db.Protocol, ep db.Endpoint) (*Change, error) {
	c, err := f.read()
	if err != nil {
		return nil, err
	}
	if f.Client.wary && c.there && c.mode&0o002 != 0 {
		return nil, &BrokenError{c.Path, fmt.Errorf("every user may write it, so its clients ignore it: chmod o-w %s", shell.Quote(c.Path))}
	}
	if c.After, err = f.Client.format.put(c.Before, proto, ep, f.removal(ep.TunnelName)); err != nil {
		return nil, &BrokenError{c.Path, err}
	}
	return c, nil
}

// Drop prepares the removal of a tunnel's entry. If it is the last one, and only
// berth has written the file since its first, the file becomes what it was before
// that, to the byte.
func (f File) Drop(tunnel string) (*Change, error) {
	c, err := f.read()
	if err != nil {
		return nil, err
	}
	c.After, err = f.Client.format.remove(c.Before, tunnel)
	if errors.Is(err, ErrNone) {
		return nil, fmt.Errorf("%s: %w", c.Path, err)
	}
	if err != nil {
		return nil, &BrokenError{c.Path, err}
	}
	left, err := f.Client.Entries(c.After)
	rec, ok := f.load()[c.Path]
	if err != nil || len(left) > 0 || !ok || rec.Written != hash(c.Before) {
		return c, nil //nolint:nilerr // what remove has made is right as well
	}
	if rec.Created {
		c.Remove, c.After = true, nil
		return c, nil
	}
	was, err := os.ReadFile(rec.Backup)
	if err != nil {
		return c, nil //nolint:nilerr // without the copy the entry is cut out
	}
	if had, err := f.Client.Entries(was); err == nil && len(had) == 0 {
		c.After, c.spent = was, rec.Backup
	}
	return c, nil
}

// Apply writes the change. A content that is not berth's own work is kept as a
// copy beside the file, whose path Apply returns; empty means that none was needed.
func (c *Change) Apply() (backup string, err error) {
	now, err := c.file.read()
	if err != nil {
		return "", err
	}
	if !bytes.Equal(now.Before, c.Before) || now.there != c.there {
		return "", fmt.Errorf("%s: %w", c.Path, ErrChanged)
	}
	if c.mode&0o200 == 0 {
		return "", fmt.Errorf("%s is read-only", c.Path)
	}
	if !c.there {
		if err := os.MkdirAll(filepath.Dir(c.Path), 0o700); err != nil {
			return "", err
		}
	}
	records := c.file.load()
	rec, ok := records[c.Path]
	if !ok || rec.Written != hash(c.Before) {
		rec = record{Client: c.file.Client.Name, Created: !c.there}
		if c.there {
			if backup, err = keep(c.Path, c.Before, c.mode); err != nil {
				return "", fmt.Errorf("keep a copy: %w", err)
			}
			rec.Backup = backup
		}
	}
	if c.Remove {
		err = os.Remove(c.Path)
	} else {
		err = atomicfile.Write(c.Path, c.After, c.mode)
	}
	if err != nil {
		return backup, err
	}
	switch rec.Written = hash(c.After); {
	case c.Remove:
		delete(records, c.Path)
	case c.spent != "":
		delete(records, c.Path)
		err = os.Remove(c.spent)
	default:
		records[c.Path] = rec
	}
	return backup, errors.Join(err, c.file.save(records))
}

// keep writes a copy of a file's content beside it, and returns its path. It
// leaves older copies alone, unless one is the same.
func keep(path string, data []byte, mode fs.FileMode) (string, error) {
	for n := 1; ; n++ {
		backup := path + backupSuffix
		if n > 1 {
			backup = fmt.Sprintf("%s-%d", backup, n)
		}
		switch there, _, err := atomicfile.Read(backup); {
		case err == nil && bytes.Equal(there, data):
			return backup, nil
		case errors.Is(err, fs.ErrNotExist):
			return backup, atomicfile.Write(backup, data, mode)
		case err != nil:
			return "", err
		}
	}
}

func (f File) read() (*Change, error) {
	path, err := atomicfile.Resolve(f.Path)
	if err != nil {
		return nil, err
	}
	c := &Change{Path: path, file: f, mode: 0o600}
	data, info, err := atomicfile.Read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c, nil
	case errors.Is(err, atomicfile.ErrForeign):
		return nil, &BrokenError{path, err}
	case err != nil:
		return nil, err
	}
	c.Before, c.mode, c.there = data, info.Mode().Perm(), true
	return c, nil
}

// load reads the records. Without them an undo cuts the entry out, which is
// right as well: a broken record is no reason to fail.
func (f File) load() map[string]record {
	records := map[string]record{}
	if raw, err := os.ReadFile(f.Record); err != nil || json.Unmarshal(raw, &records) != nil {
		return map[string]record{}
	}
	return records
}

func (f File) save(records map[string]record) error {
	raw, err := json.MarshalIndent(records, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f.Record), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(f.Record, raw, 0o600)
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
