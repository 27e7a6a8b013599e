package pseudonym

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func keyIn(dir string) string { return filepath.Join(dir, "a.key") }

func load(t *testing.T, dir string) Key {
	t.Helper()
	k, anew, err := Load(keyIn(dir))
	if err != nil || anew {
		t.Fatal(anew, err)
	}
	return k
}

// TestTwoInstallationsCannotBeJoined: a name has nothing in common in both, and stays
// the same in each.
func TestTwoInstallationsCannotBeJoined(t *testing.T) {
	here, there := t.TempDir(), t.TempDir()
	one, other := load(t, here), load(t, there)
	for _, name := range []string{"", "prod", "example.com", strings.Repeat("x", 5000)} {
		if one.Of("cluster", name) == other.Of("cluster", name) {
			t.Errorf("%.20q is %s in both", name, one.Of("cluster", name))
		}
		if again := load(t, here); again.Of("cluster", name) != one.Of("cluster", name) {
			t.Errorf("%.20q changed its pseudonym", name)
		}
		if one.Of("cluster", name) == one.Of("user", name) {
			t.Errorf("%.20q has one pseudonym as a cluster and as a user", name)
		}
	}
	if _, err := Rotate(keyIn(here)); err != nil {
		t.Fatal(err)
	}
	if load(t, here).Of("cluster", "prod") == one.Of("cluster", "prod") {
		t.Error("a new key names things as the old one did")
	}
}

// TestDictionary: whoever has pseudonyms and every likely name, and not the key,
// finds no name again.
func TestDictionary(t *testing.T) {
	published := load(t, t.TempDir()).Of("cluster", "prod")
	guesses := []Key{{}, load(t, t.TempDir())}
	for _, guess := range guesses {
		for _, name := range []string{"prod", "production", "example.com", "main"} {
			if guess.Of("cluster", name) == published {
				t.Errorf("%s was found to be %q", published, name)
			}
		}
	}
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	load(t, dir)
	path := keyIn(dir)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the key has mode %v", info.Mode())
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	load(t, dir)
	if info, err = os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("a key that others may read stays so: %v (%v)", info.Mode(), err)
	}
	for _, bad := range []string{"", "short", strings.Repeat("x", 33)} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("a key of %d bytes: %v", len(bad), err)
		}
		if _, anew, err := Load(path); err != nil || !anew {
			t.Errorf("a key of %d bytes is not replaced: %v", len(bad), err)
		}
		if kept, err := os.ReadFile(BrokenPath(path)); err != nil || string(kept) != bad {
			t.Errorf("a key of %d bytes is not set aside: %q, %v", len(bad), kept, err)
		}
		load(t, dir)
	}
	for range 2 { // the second time something is aside already
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(path, "folder"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, anew, err := Load(path); err != nil || !anew {
			t.Errorf("a folder in the place of a key is not replaced: %v", err)
		}
	}
}
