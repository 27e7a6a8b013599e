//go:build unix

package browser

import (
	"os/exec"
	"syscall"
)

// detach keeps a browser out of what ends our group of processes: Ctrl-C in the terminal,
// the terminal's end, launchd at the end of a job (launchd.plist(5), AbandonProcessGroup).
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
