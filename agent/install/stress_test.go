package install

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"
)

// A tsh that reissues at the same moment writes the old keys and certificates,
// in place and one by one, without regard for anybody. Whoever comes last wins,
// but the two sessions must not stay mixed.
func TestTSHReissuesMeanwhile(t *testing.T) {
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, layout).withOld(layout)
			pristine, roles := f.home.Dir, map[string]int{}
			for range 40 / stride() {
				f.home.Dir = filepath.Join(t.TempDir(), ".tsh")
				copyHome(t, pristine, f.home.Dir)
				tsh := f.home
				tsh.Before = func(string) error { time.Sleep(rand.N(300 * time.Microsecond)); return nil }
				done := make(chan error, 1)
				go func() {
					time.Sleep(rand.N(12 * time.Millisecond))
					err := tsh.DBLogin(f.oldProf, f.old, "root", "pg", []byte("db cert"), []byte("db key"))
					if errors.Is(err, fs.ErrNotExist) {
						// The folder it had just made went with the old session: tsh fails, and is run again.
						err = tsh.DBLogin(f.oldProf, f.old, "root", "pg", []byte("db cert"), []byte("db key"))
					}
					done <- err
				}()
				f.check(Login(t.Context(), f.config()))
				f.check(<-done)
				role := f.role()
				roles[role]++
				if role != "old" && role != "new" {
					t.Fatalf("role = %q", role)
				}
				f.tidy()
			}
			if roles["new"] == 0 {
				t.Error("the new session was never there in the end")
			}
			t.Logf("sessions in the end: %v", roles)
		})
	}
}
