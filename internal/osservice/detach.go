package osservice

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// DetachedVar is set in the environment of a program that no manager watches.
const DetachedVar = "BERTH_DETACHED"

// startDetached starts the program so that it outlives this one and its
// terminal. Its output goes nowhere: it keeps a log itself.
func startDetached(ctx context.Context, cfg Config) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	cmd := exec.Command(cfg.Program, cfg.Args...) //nolint:noctx // it must outlive every context of this process
	cmd.Env = append(os.Environ(), DetachedVar+"=1")
	for _, e := range cfg.Env {
		cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
	}
	cmd.Dir = stayingFolder()
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", cfg.Program, err)
	}
	return cmd.Process.Release()
}

// stayingFolder is a folder that stays: the one we happen to be in may be unmounted
// one day. HOME may name a folder that is not there, as that of a container's user.
func stayingFolder() string {
	if home, err := os.UserHomeDir(); err == nil {
		if info, err := os.Stat(home); err == nil && info.IsDir() {
			return home
		}
	}
	return filepath.VolumeName(os.TempDir()) + string(filepath.Separator)
}
