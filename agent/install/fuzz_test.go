package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gravitational/teleport/api/utils/keypaths"
)

// FuzzJournal: whatever the record of an interrupted installation says, recovering
// ends, leaves nothing of it in the home, and what is outside of the home as it was.
func FuzzJournal(f *testing.F) {
	const home = "@HOME@" // of each try
	build := newBuild()
	for _, j := range []journal{
		{},
		{Profile: "p.test", User: "alice", Dir: home + "/keys/p.test", Build: home + "/keys/" + build, Current: true, YAML: []byte("a: b\n")},
		{Profile: "p.test", User: "alice", Dir: home + "/keys/p.test", Build: home + "/keys/" + build, Placing: true, OldSums: map[string][]byte{"alice": {1}}},
		{Profile: "../outside", User: "alice", Dir: home + "/keys/p.test", Build: home + "/keys/" + build, YAML: []byte("x"), Current: true},
		{Profile: "p.test", User: "alice", Dir: home + "/../outside", Build: home + "/../" + build, Placing: true},
	} {
		raw, err := json.Marshal(j)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(`{"Profile":`))
	f.Fuzz(func(t *testing.T, data []byte) {
		top := t.TempDir()
		at, outside := filepath.Join(top, "tsh"), filepath.Join(top, "outside")
		put := func(path, text string) {
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		put(filepath.Join(keypaths.KeyDir(at), "p.test", "alice"), "key")
		put(filepath.Join(keypaths.KeyDir(at), build, "alice"), "new key")
		put(keypaths.ProfileFilePath(at, "p.test"), "a: c\n")
		put(outside, "kept")
		put(journalPath(at), string(bytes.ReplaceAll(data, []byte(home), []byte(at))))
		if j, err := readJournal(at); err == nil && j != nil && !strings.HasPrefix(filepath.Clean(j.Dir), at+string(filepath.Separator)) {
			return // a home's folder may be a link: this one would be read from the machine at large
		}
		err := Recover(t.Context(), at, nil)
		if _, statErr := os.Lstat(journalPath(at)); err == nil && !errors.Is(statErr, fs.ErrNotExist) {
			t.Errorf("the journal is still there: %v", statErr)
		}
		if got, err := os.ReadFile(outside); err != nil || string(got) != "kept" {
			t.Errorf("what is outside of the home is %q (%v)", got, err)
		}
	})
}
