package install

import (
	"context"
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
			pristine, roles, heldUp := f.home.Dir, map[string]int{}, 0
			for range 40 / stride() {
				f.home.Dir = filepath.Join(t.TempDir(), ".tsh")
				copyHome(t, pristine, f.home.Dir)
				tsh, pace := f.home, new(pace)
				tsh.Before = func(string) error { time.Sleep(rand.N(300 * time.Microsecond)); pace.note(); return nil }
				done := make(chan error, 1)
				go func() {
					time.Sleep(rand.N(12 * time.Millisecond))
					err := tsh.DBLogin(f.oldProf, f.old, "root", "pg", []byte("db cert"), []byte("db key"))
					if errors.Is(err, fs.ErrNotExist) {
						// The folder it had just made went with the old session: tsh fails, and is run again.
						err = tsh.DBLogin(f.oldProf, f.old, "root", "pg", []byte("db cert"), []byte("db key"))
					}
					pace.note()
					done <- err
				}()
				err, tshErr := Login(t.Context(), f.config()), <-done
				role, roleErr := roleIn(f.home.Dir, proxyName)
				// tsh may write on when it is no longer looked for, or give up a lock: that is
				// the machine's doing.
				late := pace.longest > settleTime/2 || errors.Is(tshErr, context.DeadlineExceeded)
				bad := errors.Join(err, tshErr, roleErr)
				if late && (bad != nil || role != "old" && role != "new") {
					heldUp++
					continue
				}
				f.check(bad)
				roles[role]++
				if role != "old" && role != "new" {
					t.Fatalf("role = %q", role)
				}
				f.tidy()
			}
			if roles["new"] == 0 {
				t.Error("the new session was never there in the end")
			}
			t.Logf("sessions in the end: %v; rounds that the machine spoilt: %d", roles, heldUp)
		})
	}
}

// pace is how steadily a tsh writes.
type pace struct {
	last    time.Time
	longest time.Duration // between two files
}

func (p *pace) note() {
	now := time.Now()
	if !p.last.IsZero() {
		p.longest = max(p.longest, now.Sub(p.last))
	}
	p.last = now
}
