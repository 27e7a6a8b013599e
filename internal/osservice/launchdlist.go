package osservice

import (
	"fmt"
	"regexp"
	"strconv"
	"syscall"
)

var (
	launchdPID  = regexp.MustCompile(`"PID" = (\d+);`)
	launchdExit = regexp.MustCompile(`"LastExitStatus" = (\d+);`)
)

// launchdList takes the answer of "launchctl list LABEL" apart: the process,
// zero if there is none, and what is wrong.
func launchdList(out string) (pid int, trouble string) {
	if m := launchdPID.FindStringSubmatch(out); m != nil {
		pid, _ = strconv.Atoi(m[1]) // it is digits; zero is unknown
		return pid, ""
	}
	m := launchdExit.FindStringSubmatch(out)
	if m == nil || m[1] == "0" {
		return 0, ""
	}
	status, _ := strconv.Atoi(m[1]) // as wait(2) has it
	if signal := syscall.Signal(status & 0x7f); signal != 0 {
		return 0, fmt.Sprintf("signal %d (%v) ended it, and it is started again", int(signal), signal)
	}
	return 0, fmt.Sprintf("it failed with status %d, and is started again", status>>8)
}
