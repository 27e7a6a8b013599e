package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/shirou/gopsutil/v4/disk"

	"berth/agent/secrets"
	"berth/tray/autostart"
)

// checkDisk looks at the room where berth writes.
func (d *doctor) checkDisk(ctx context.Context) []Finding {
	dir := existing(d.Paths.StateDir)
	use, err := disk.UsageWithContext(ctx, dir)
	if err != nil {
		return one("disk", Warn, fmt.Sprintf("the space left at %s is not known: %v", dir, err), "")
	}
	return space(dir, use)
}

// space tells how much room there is. A file system can also be out of files;
// those that do not count them say that there are none in all.
func space(dir string, use *disk.UsageStat) []Finding {
	const fix = "free some space"
	switch {
	case use.Free < noSpace || use.InodesTotal > 0 && use.InodesFree == 0:
		return one("disk", Fail, fmt.Sprintf("no space left at %s: logins, the config and the log cannot be written", dir), fix)
	case use.Free < lowSpace:
		return one("disk", Warn, fmt.Sprintf("only %d MB are left at %s", use.Free>>20, dir), fix)
	default:
		return one("disk", OK, fmt.Sprintf("%d GB are free at %s", use.Free>>30, dir), "")
	}
}

// existing is dir, or the first folder above it that is there.
func existing(dir string) string {
	for {
		_, err := os.Stat(dir)
		if !errors.Is(err, fs.ErrNotExist) || filepath.Dir(dir) == dir {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

func (d *doctor) checkKeychain(ctx context.Context) []Finding {
	err := secrets.New(d.Logger).Check(ctx)
	none, noKeychain := errors.AsType[*secrets.NoKeychainError](err)
	switch {
	case err == nil:
		return one("keychain", OK, "the keychain is there and unlocked", "")
	case noKeychain:
		return one("keychain", Skip, none.Error()+": passwords can be typed, and not be remembered", none.Hint())
	}
	if locked, ok := errors.AsType[*secrets.LockedError](err); ok {
		return one("keychain", Warn, locked.Error(), locked.Hint())
	}
	return one("keychain", Warn, err.Error(), "")
}

func (d *doctor) checkAutostart(context.Context) []Finding {
	if d.Autostart.Program == "" {
		return one("autostart", Skip, "a second berth's tray is started by hand", "")
	}
	st, err := autostart.Look(d.Autostart, d.Env)
	switch {
	case err != nil:
		return one("autostart", Warn, err.Error(), "berth tray install")
	case !st.Installed:
		return one("autostart", Skip, "the tray does not start when you log in", "berth tray install")
	case st.Off:
		fix := "berth tray install"
		if runtime.GOOS == "windows" {
			fix = "switch it on in the Task Manager, under Startup apps"
		}
		return one("autostart", Skip, "the tray is switched off: it does not start when you log in", fix)
	case !st.Current:
		return []Finding{{
			Check: "autostart", Status: Warn, Text: fmt.Sprintf("%s starts another program, or one that was moved", st.Path), Fix: "berth tray install",
			repair: func(context.Context) (string, error) {
				r, err := autostart.Install(d.Autostart, d.Env)
				return "rewritten: " + r.Path, err
			},
		}}
	default:
		return one("autostart", OK, "the tray starts when you log in: "+st.Path, "")
	}
}
