package osservice

import (
	"context"
	"fmt"
	"os"
	"os/exec"
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
	if home, err := os.UserHomeDir(); err == nil {
		cmd.Dir = home // the folder we happen to be in may be unmounted one day
	}
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", cfg.Program, err)
	}
	return cmd.Process.Release()
}
