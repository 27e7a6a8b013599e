package memory

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/agent/secrets"
)

// TestStoredSecrets reads what an agent has noted, once it is gone.
func TestStoredSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	if keys, err := StoredSecrets(file); keys != nil || err != nil {
		t.Errorf("StoredSecrets() of no file = %v, %v", keys, err)
	}
	s, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []secrets.Kind{secrets.TOTP, secrets.Password} {
		if err := s.SetStored("tele.example.com:443", "bob@example.com", string(k), true); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetStored("other.example.com:3080", "alice", string(secrets.Password), true); err != nil {
		t.Fatal(err)
	}
	keys, err := StoredSecrets(file)
	if err != nil {
		t.Fatal(err)
	}
	want := []secrets.Key{
		{Proxy: "other.example.com:3080", User: "alice", Kind: secrets.Password},
		{Proxy: "tele.example.com:443", User: "bob@example.com", Kind: secrets.Password},
		{Proxy: "tele.example.com:443", User: "bob@example.com", Kind: secrets.TOTP},
	}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := StoredSecrets(file); err == nil {
		t.Error("a broken file was read")
	}
}
