package install

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	journalName = "install.json"
	// buildPrefix begins the names of new folders beside the one to replace.
	buildPrefix = ".berth-"
	// tempSuffix ends the names of files that are about to be renamed.
	tempSuffix = ".berth-new"
)

// A journal is an installer's record, written before its first change, so that
// another one can finish or undo its work. It holds no secrets.
type journal struct {
	Profile string // the name
	User    string
	Dir     string // the folder to replace, symbolic links resolved
	Build   string // the new folder beside it; after the exchange the old one
	Old     string // digests of the user's session before and after
	New     string

	YAML      []byte // the new content of the profile; nil means that it stays
	OldYAML   []byte // nil means that there was none
	YAMLFirst bool   // the profile is written before the session, not after it

	Current    bool   // the profile becomes the current one
	OldCurrent []byte // the line that says which one was

	// Placing says that Build is complete and its files are being placed one
	// by one: the folder may be a mixture until all are.
	Placing bool
	// OldSums are the checksums of the files then there, by path: what is of
	// neither session, another program has written.
	OldSums map[string][]byte
}

// old is a picture of the folder's files before they were replaced.
func (j *journal) old() folder {
	f := folder{}
	for path, sum := range j.OldSums {
		e := entry{}
		copy(e.sum[:], sum)
		f[path] = e
	}
	return f
}

func journalPath(home string) string { return filepath.Join(workDir(home), journalName) }

// write makes the journal durable.
func (j *journal) write(d *disk, home string) error {
	data, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the journal: %w", err)
	}
	path := journalPath(home)
	return d.replace(path, path+tempSuffix, data)
}

// readJournal reads what an installer left; nil means nothing.
func readJournal(home string) (*journal, error) {
	data, err := os.ReadFile(journalPath(home))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var j journal
	if err := json.Unmarshal(data, &j); err != nil {
		return nil, fmt.Errorf("journal %q: %w", journalPath(home), err)
	}
	beside := filepath.Dir(j.Build) == filepath.Dir(j.Dir) && isBuild(filepath.Base(j.Build))
	if !beside || !isName(j.Profile) || !isName(j.User) || !filepath.IsAbs(j.Dir) {
		return nil, fmt.Errorf("journal %q: it is not one of berth's", journalPath(home))
	}
	return &j, nil
}

// newBuild returns the name for a new folder, and isBuild reports whether name
// is of one, or of the copy of the old one.
func newBuild() string { return buildPrefix + rand.Text() }

func isBuild(name string) bool {
	id, ok := strings.CutPrefix(strings.TrimSuffix(name, oldSuffix), buildPrefix)
	return ok && len(id) == len(rand.Text()) && strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// isName reports whether name, joined to a folder, is a file in that folder.
func isName(name string) bool {
	return name != "" && name != "." && filepath.IsLocal(name) && !strings.ContainsAny(name, "/\\\x00")
}
