package agent

import (
	"fmt"
	"os"

	"berth/agent/state"
)

// executable is the file that the agent was started from.
type executable struct {
	path string
	info os.FileInfo // nil when the system does not say
}

func ownExecutable() executable {
	path, err := os.Executable()
	if err != nil {
		return executable{}
	}
	info, err := os.Stat(path)
	if err != nil {
		return executable{}
	}
	return executable{path: path, info: info}
}

// replaced reports whether another program is in the place of this one now. One
// that is missing is none: an upgrade may be half-way.
func (p executable) replaced() bool {
	if p.info == nil {
		return false
	}
	now, err := os.Stat(p.path)
	return err == nil && (!os.SameFile(p.info, now) || !p.info.ModTime().Equal(now.ModTime()) || p.info.Size() != now.Size())
}

// problems says that an upgrade waits for the agent to be restarted.
func (p executable) problems(version string) []state.Problem {
	if !p.replaced() {
		return nil
	}
	return []state.Problem{{
		Code: state.CodeProgramReplaced, Title: "Program replaced",
		Text:   fmt.Sprintf("The program was replaced, and the agent still runs the old one, version %s.", version),
		Action: "berth agent restart",
	}}
}
