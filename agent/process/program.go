package process

import (
	"fmt"
	"os"
	"sync/atomic"

	"berth/agent/state"
)

// Executable is the file that a process was started from.
type Executable struct {
	path     string
	info     os.FileInfo // nil when the system does not say
	replaced atomic.Bool // what Look found
}

// OwnExecutable is that of this process.
func OwnExecutable() *Executable {
	path, err := os.Executable()
	if err != nil {
		return &Executable{}
	}
	return ExecutableAt(path)
}

// ExecutableAt is the file at path, as it is now.
func ExecutableAt(path string) *Executable {
	info, err := os.Stat(path)
	if err != nil {
		return &Executable{}
	}
	return &Executable{path: path, info: info}
}

// Look looks whether another program is in the place of this one now. One that is
// missing is none: an upgrade may be half-way. It asks the disk.
func (p *Executable) Look() {
	if p.info == nil {
		return
	}
	now, err := os.Stat(p.path)
	p.replaced.Store(err == nil && (!os.SameFile(p.info, now) || !p.info.ModTime().Equal(now.ModTime()) || p.info.Size() != now.Size()))
}

// Problems says that an upgrade waits for the agent to be restarted, if the last Look
// found one. It does not wait.
func (p *Executable) Problems(version string) []state.Problem {
	if !p.replaced.Load() {
		return nil
	}
	return []state.Problem{{
		Code: state.CodeProgramReplaced, Title: "Program replaced",
		Text:   fmt.Sprintf("The program was replaced, and the agent still runs the old one, version %s.", version),
		Action: "berth agent restart",
	}}
}
