package install

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"berth/internal/testneeds"
	"berth/internal/tshhome"
)

// Each step may fail, as on a full disk, and not only be the last: the home is
// then as before, at once and with nothing left behind.
func TestEveryStepFails(t *testing.T) {
	for way, swap := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tshhome.V17).withOld(tshhome.V17)
			pristine := f.home.Dir
			for n := 0; ; n += stride() {
				f.home.Dir = filepath.Join(t.TempDir(), ".tsh")
				copyHome(t, pristine, f.home.Dir)
				step := -1
				where := ""
				err := login(t.Context(), f.config(), &disk{swap: swap, before: func(s string) error {
					if step++; step == n {
						where = s
						return syscall.ENOSPC
					}
					return nil
				}})
				if step < n {
					f.check(err)
					break
				}
				if role := f.role(); role != "old" && role != "new" || err == nil && role == "old" {
					t.Fatalf("step %d (%s) failed: role = %q, Login = %v", n, where, role, err)
				}
				if err != nil && f.role() != "old" {
					t.Fatalf("step %d (%s) failed: Login = %v, and yet the session is the new one", n, where, err)
				}
				f.mustHold(f.role())
				f.check(Recover(t.Context(), f.home.Dir, nil))
				f.tidy()
			}
		})
	}
}

// The disk fails while files are placed one by one, and then the process is
// killed while it undoes that.
func TestKilledWhileUndoing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tshhome.V17).withOld(tshhome.V17)
	pristine := f.home.Dir
	for fails := 1; fails <= 5; fails++ { // the file whose placing fails
		for n := 0; ; n += stride() {
			f.home.Dir = filepath.Join(t.TempDir(), ".tsh")
			copyHome(t, pristine, f.home.Dir)
			placed, k := 0, &killer{left: n}
			err := login(t.Context(), f.config(), &disk{swap: noExchange, before: func(step string) error {
				if strings.HasPrefix(step, "rename ") && strings.Contains(step, filepath.Join("keys", proxyName, userName)) {
					placed++
				}
				switch {
				case placed < fails:
					return nil
				case placed == fails && len(k.steps) == 0 && !k.dead:
					k.steps = append(k.steps, "fails")
					return syscall.EIO
				default:
					return k.before(step)
				}
			}})
			if err == nil {
				t.Fatal("Login = nil although the disk fails")
			}
			f.check(Recover(t.Context(), f.home.Dir, nil))
			role := f.role()
			if role != "old" && (role != "new" || !k.dead) {
				t.Fatalf("file %d fails, killed %d steps later (%s): role = %q", fails, n, last(k.steps), role)
			}
			f.mustHold(role)
			f.tidy()
			if !k.dead {
				break
			}
		}
	}
}

// Odd modes of what is there are no obstacle, and do not last.
func TestOddModes(t *testing.T) {
	testneeds.Unix(t, "Windows has no file modes")
	f := newFixture(t, tshhome.V17).withOld(tshhome.V17)
	keys := filepath.Join(f.home.Dir, "keys", proxyName)
	f.write(filepath.Join("keys", proxyName, "bob"), "bob's key")
	for path, mode := range map[string]os.FileMode{
		"alice.key": 0o444, "alice.crt": 0o000, "alice": 0o666, "bob": 0o400, "alice-ssh": 0o500, "cas": 0o555, "": 0o500,
	} {
		f.check(os.Chmod(filepath.Join(keys, path), mode))
	}
	f.check(Login(t.Context(), f.config()))
	for path, want := range map[string]os.FileMode{
		"alice.key": 0o600, "alice.crt": 0o600, "alice": 0o600, "bob": 0o400, "alice-ssh": 0o700, "cas": 0o700, "": 0o700,
	} {
		if got := must(os.Stat(filepath.Join(keys, path))).Mode().Perm(); got != want {
			t.Errorf("mode of %q = %o, want %o", path, got, want)
		}
	}
	f.mustHold("new")
	f.tidy()
}

// A link to the home, to its keys or to the profile's keys stays a link.
func TestSymlinks(t *testing.T) {
	testneeds.Unix(t, "links need a privilege on Windows")
	t.Parallel()
	for _, link := range []string{"", "keys", filepath.Join("keys", proxyName), proxyName + ".yaml", "known_hosts"} {
		t.Run("home_"+filepath.Base(link), func(t *testing.T) {
			f := newFixture(t, tshhome.V17).withOld(tshhome.V17)
			path, target := filepath.Join(f.home.Dir, link), filepath.Join(t.TempDir(), "target")
			f.check(os.Rename(path, target))
			f.check(os.Symlink(target, path))
			k := &killer{left: 25}
			_ = login(t.Context(), f.config(), &disk{before: k.before}) // killed
			f.check(Login(t.Context(), f.config()))
			f.mustHold("new")
			if to, err := os.Readlink(path); err != nil || to != target {
				t.Errorf("the link leads to %q, %v; want %q", to, err, target)
			}
			if left := must(os.ReadDir(filepath.Dir(target))); len(left) != 1 {
				t.Errorf("left beside the link's target: %v", left)
			}
		})
	}
}

// tinyDisk returns a file system of 256 KB.
func tinyDisk(t *testing.T) string {
	t.Helper()
	testneeds.Root(t, "it mounts a tiny disk")
	if runtime.GOOS != "linux" {
		testneeds.Skip(t, "Linux", "it mounts a tiny disk")
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", dir).CombinedOutput(); err != nil {
		testneeds.Here(t, "to mount a disk", fmt.Errorf("%w: %s", err, out))
	}
	t.Cleanup(func() {
		if err := exec.Command("umount", dir).Run(); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestReadOnlyHome(t *testing.T) {
	f := newFixture(t, tshhome.V17).withOld(tshhome.V17)
	disk := tinyDisk(t)
	home := filepath.Join(disk, ".tsh")
	copyHome(t, f.home.Dir, home)
	f.home.Dir = home
	f.check(exec.CommandContext(t.Context(), "mount", "-o", "remount,ro", disk).Run())
	_, err := NewStaging(t.Context(), home)
	for what, err := range map[string]error{"Login": Login(t.Context(), f.config()), "NewStaging": err} {
		if err == nil || !strings.Contains(err.Error(), "writable") {
			t.Errorf("%s = %v, want advice", what, err)
		}
	}
	f.check(Recover(t.Context(), home, nil)) // nothing to do
	f.mustHold("old")
}

// On a full disk the old session stays, whatever is free; see stride. A child that is
// being started holds what is open here, locks too: nothing else runs beside the mounts.
func TestFullDisk(t *testing.T) {
	for way, swap := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tshhome.V17).withOld(tshhome.V17)
			pristine, small := f.home.Dir, tinyDisk(t)
			seen := map[string]int{}
			for free := 0; free < 256; free += 4 * stride() {
				f.home.Dir = filepath.Join(small, ".tsh")
				copyHome(t, pristine, f.home.Dir)
				filler := fill(t, small, int64(free)<<10)
				err := login(t.Context(), f.config(), &disk{swap: swap})
				role := f.role()
				if err == nil && role != "new" || err != nil && (role != "old" || !strings.Contains(err.Error(), "make room")) {
					t.Fatalf("%d KB free: Login = %v, and the session is %q", free, err, role)
				}
				f.mustHold(role)
				f.tidy()
				seen[role]++
				f.check(os.RemoveAll(f.home.Dir))
				f.check(os.Remove(filler))
			}
			if seen["old"] == 0 || seen["new"] == 0 {
				t.Errorf("sessions %v, want some of both", seen)
			}
			t.Logf("%v", seen)
		})
	}
}

// fill leaves free bytes on a tiny disk.
func fill(t *testing.T, disk string, free int64) (filler string) {
	t.Helper()
	filler = filepath.Join(disk, "filler")
	_ = os.WriteFile(filler, bytes.Repeat([]byte("x"), 256<<10), 0o600) // until it is full
	size := must(os.Stat(filler)).Size() / 4096 * 4096
	if err := os.Truncate(filler, max(0, size-free)); err != nil {
		t.Fatal(err)
	}
	return filler
}
