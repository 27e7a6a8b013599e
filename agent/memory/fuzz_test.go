package memory

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzLoad reads a state file of any content: what comes back can be used, and what
// cannot be understood is set aside whole.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"version":1,"stopped":["pg"],"clusters":{"c":{"proxy":"p:443","user":"u"}}}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"grants":null,"stored":{"@":[]}}`))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "state.json")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Load(path)
		if err != nil {
			aside := path + ".broken"
			if _, newer := errors.AsType[*NewerError](err); newer {
				aside = path + ".newer"
			}
			if kept, _ := os.ReadFile(aside); string(kept) != string(raw) {
				t.Errorf("%v, and %q is left of %q", err, kept, raw)
			}
		}
		if err := s.SetStopped("pg", true); err != nil || !s.Stopped("pg") {
			t.Errorf("it cannot be used: %v", err)
		}
		if again, err := Load(path); err != nil || !again.Stopped("pg") {
			t.Errorf("what it writes cannot be read: %v", err)
		}
		if _, err := StoredSecrets(path); err != nil {
			t.Errorf("its secrets: %v", err)
		}
	})
}
