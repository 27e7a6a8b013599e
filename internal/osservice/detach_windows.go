package osservice

import (
	"os/exec"
	"syscall"

	"golang.org/x/sys/windows"
)

// detach gives the program no console, and keeps this one's Ctrl-C from it.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		HideWindow: true, CreationFlags: windows.CREATE_NO_WINDOW | windows.CREATE_NEW_PROCESS_GROUP,
	}
}
