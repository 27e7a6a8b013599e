//go:build !windows

package tray

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"berth/internal/plain"
)

// Copy puts text on the clipboard, with the program of the desktop that is
// there now. On X11 and Wayland a clipboard lives in a program, which these
// leave behind until something else is copied.
func Copy(ctx context.Context, text string) error {
	argv := clipboardProgram(runtime.GOOS, os.Getenv, exec.LookPath)
	if argv == nil {
		return errors.New("no program for the clipboard was found: install wl-clipboard on Wayland, else xclip or xsel")
	}
	ctx, cancel := context.WithTimeout(ctx, copyWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(text)
	// A file takes what it complains about: what stays behind would hold a
	// pipe open.
	complaint, err := os.CreateTemp("", "berth-copy-")
	if err != nil {
		return fmt.Errorf("put text on the clipboard: %w", err)
	}
	defer func() { _ = complaint.Close(); _ = os.Remove(complaint.Name()) }()
	cmd.Stderr = complaint
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(complaint.Name())
		if line := lastLine(said); line != "" {
			err = fmt.Errorf("%w: %s", err, line)
		}
		return fmt.Errorf("put text on the clipboard with %s: %w", argv[0], err)
	}
	return nil
}

// clipboardProgram is the command that takes what is to be copied; nil means
// that there is none.
func clipboardProgram(goos string, env func(string) string, find func(string) (string, error)) []string {
	if goos == "darwin" {
		return []string{"pbcopy"}
	}
	programs := [][]string{{"xclip", "-in", "-selection", "clipboard"}, {"xsel", "--input", "--clipboard"}}
	if env("WAYLAND_DISPLAY") != "" {
		programs = append([][]string{{"wl-copy"}}, programs...)
	}
	for _, argv := range programs {
		if _, err := find(argv[0]); err == nil {
			return argv
		}
	}
	return nil
}

// lastLine is the last line that says anything, as it can be shown.
func lastLine(said []byte) string {
	lines := bytes.Split(bytes.TrimSpace(said), []byte("\n"))
	return plain.Short(string(lines[len(lines)-1]), maxLabel)
}
