package browser

import "os/exec"

// detach has nothing to do: Ctrl-C and a terminal's end reach programs of the console alone.
func detach(*exec.Cmd) {}
