//go:build !windows

package main

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"
)

// startDetached starts a program that outlives this one.
func startDetached(ctx context.Context, program string, args ...string) error {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", program, err)
	}
	go func() { _ = cmd.Wait() }() // how it ends is its own affair
	return nil
}

// hideConsole does something on Windows only.
func hideConsole(*exec.Cmd) {}
