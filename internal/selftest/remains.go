package selftest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// folderName is what each self-test's folder among the temporary files begins with.
const folderName = "berth-selftest-"

// recordName is the file of such a folder that says whose it is.
const recordName = "selftest.json"

// record is what the next self-test has to know when this one is killed: an agent that
// a service manager has started does not end with it.
type record struct {
	PID       int    `json:"pid"`
	Home      string `json:"home"` // BERTH_HOME, as seen from the folder
	OwnConfig bool   `json:"own_config"`
}

// record writes down how things are.
func (r *run) record() error {
	home, err := filepath.Rel(r.dir, r.home())
	if err != nil {
		return err
	}
	raw, err := json.Marshal(record{os.Getpid(), home, r.ownConfig})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.dir, recordName), raw, 0o600)
}

// sweep removes what self-tests of this user left that were killed, with the agents
// that they had installed, and returns how many there were.
func sweep(ctx context.Context, cfg Config) (swept int, err error) {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), folderName+"*"))
	if err != nil {
		return 0, err
	}
	for _, dir := range dirs {
		old := abandoned(cfg, dir)
		if old == nil {
			continue
		}
		swept++
		if _, e := old.berth(ctx, "agent", "uninstall"); e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", dir, e))
			continue // the record stays for the next time
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return swept, err
}

// abandoned is the self-test that left a folder; nil when it still runs, or the folder
// is none of this user's self-tests.
func abandoned(cfg Config, dir string) *run {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || !own(info) {
		return nil
	}
	path := filepath.Join(dir, recordName)
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var left record
	if json.Unmarshal(raw, &left) != nil || !filepath.IsLocal(left.Home) {
		return nil
	}
	if written, err := os.Stat(path); err != nil || runs(left.PID) && time.Since(written.ModTime()) < MaxTime {
		return nil
	}
	return &run{Config: cfg, dir: dir, demo: &child{home: filepath.Join(dir, left.Home)}, ownConfig: left.OwnConfig}
}

// runs reports whether there is a process of that number, whichever it is.
func runs(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer func() { _ = p.Release() }() // it is not waited for
	return runtime.GOOS == "windows" || !errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone)
}
