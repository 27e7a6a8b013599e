package osservice

import (
	"regexp"
	"strconv"
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
	if m := launchdExit.FindStringSubmatch(out); m != nil && m[1] != "0" {
		return 0, "it failed with status " + m[1] + ", and is started again"
	}
	return 0, ""
}
