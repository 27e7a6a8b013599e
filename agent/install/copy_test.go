package install

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A private copy of a session takes certificates of its own, and the real home
// stays as it is.
func TestCopySession(t *testing.T) {
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, layout).withOld(layout)
			f.write(filepath.Join("keys", proxyName, "bob"), "another user's key")
			f.write("config/config.yaml", "aliases: {}")
			cfg := f.reissue(layout, nil)
			before := contents(t, f.home.Dir)
			s, err := CopySession(t.Context(), f.home.Dir, proxyName, userName)
			f.check(err)
			if role, err := roleIn(s.Dir, proxyName); role != "old" || err != nil {
				t.Errorf("the copy's role = %q, %v", role, err)
			}
			for _, path := range list(t, s.Dir) {
				if strings.Contains(path, "-db") || strings.Contains(path, "-kube") || strings.HasSuffix(path, "bob") {
					t.Errorf("copied as well: %s", path)
				}
			}
			cfg.Home, cfg.DropResources = s.Dir, true
			f.check(Certs(t.Context(), cfg))
			if role, err := roleIn(s.Dir, proxyName); role != "new" || err != nil {
				t.Errorf("the copy's role = %q, %v", role, err)
			}
			if role := f.role(); role != "old" {
				t.Errorf("the real home's role = %q", role)
			}
			f.check(s.Close())
			if diff := cmp.Diff(before, contents(t, f.home.Dir)); diff != "" {
				t.Errorf("the real home changed (-before +after):\n%s", diff)
			}
		})
	}
}

// contents are the files of a home.
func contents(t *testing.T, home string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	for _, path := range list(t, home) {
		if data, err := os.ReadFile(filepath.Join(home, path)); err == nil {
			files[path] = string(data)
		}
	}
	return files
}

// What is no whole session is not copied, and leaves nothing.
func TestCopySessionRefuses(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(f *fixture) (profile, user string){
		"no_such_profile": func(*fixture) (string, string) { return "nowhere", userName },
		"no_such_user":    func(*fixture) (string, string) { return proxyName, "carol" },
		"a_path":          func(*fixture) (string, string) { return "../" + proxyName, userName },
		"half_written": func(f *fixture) (string, string) {
			f.write(filepath.Join("keys", proxyName, userName+".crt"), "")
			return proxyName, userName
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, layouts["v17"]).withOld(layouts["v17"])
			profile, user := spoil(f)
			s, err := CopySession(t.Context(), f.home.Dir, profile, user)
			if err == nil {
				t.Errorf("copied: %v", slices.Sorted(slices.Values(list(t, s.Dir))))
				f.check(s.Close())
			}
			f.tidy()
		})
	}
}
