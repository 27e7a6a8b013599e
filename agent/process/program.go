package process

import (
	"fmt"
	"os"

	"berth/agent/state"
)

// Executable is the file that a process was started from.
type Executable struct {
	path string
	info os.FileInfo // nil when the system does not say
}

// OwnExecutable is that of this process.
func OwnExecutable() Executable {
	path, err := os.Executable()
	if err != nil {
		return Executable{}
	}
	info, err := os.Stat(path)
	if err != nil {
		return Executable{}
	}
	return Executable{path: path, info: info}
}

// replaced reports whether another program is in the place of this one now. One
// that is missing is none: an upgrade may be half-way.
func (p Executable) replaced() bool {
	if p.info == nil {
		return false
	}
	now, err := os.Stat(p.path)
	return err == nil && (!os.SameFile(p.info, now) || !p.info.ModTime().Equal(now.ModTime()) || p.info.Size() != now.Size())
}

// Problems says that an upgrade waits for the agent to be restarted.
func (p Executable) Problems(version string) []state.Problem {
	if !p.replaced() {
		return nil
	}
	return []state.Problem{{
		Code: state.CodeProgramReplaced, Title: "Program replaced",
		Text:   fmt.Sprintf("The program was replaced, and the agent still runs the old one, version %s.", version),
		Action: "berth agent restart",
	}}
}
