package tsh

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// The size of the console: so wide that no line that matters is broken in two.
const consoleColumns, consoleRows = 1000, 200

// quietFor is how long tsh must have printed nothing before a password is typed.
const quietFor = 300 * time.Millisecond

// terminal is the invisible pseudo console from which tsh reads a password. tsh
// prints to it as well, its stdout too.
//
// Unlike a Unix terminal it does not say whether it shows what is typed. What is
// known is that a console shows nothing before a program reads, that tsh has
// asked for a password and then been quiet for a moment, and that the console's
// screen is read by us alone: what it might show after the typing is dropped up
// to the end of the line.
type terminal struct {
	in      *os.File // what is written here is typed
	console windows.Handle
	theirs  *os.File // the console's end of in; nil once it has it

	mu    sync.Mutex // guards what follows
	last  time.Time  // when tsh last printed something
	typed bool       // and no line has ended since
}

func openTerminal() (*terminal, error) {
	theirs, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &terminal{in: in, theirs: theirs, last: time.Now()}, nil
}

// screen returns what reads the console's screen and passes on its text.
func (t *terminal) screen(w writer) writer { return &consoleReader{terminal: t, to: w} }

// echoIsOff reports whether it is time to type.
func (t *terminal) echoIsOff() (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(t.last) >= quietFor, nil
}

// typeLine types a line and the return key.
func (t *terminal) typeLine(line string) error {
	t.mu.Lock()
	t.typed = true
	t.mu.Unlock()
	_, err := t.in.WriteString(line + "\r")
	return err
}

// start starts cmd, suspended, in a console that prints to cmd's Stderr. The
// standard library has no way to say so.
func (t *terminal) start(cmd *exec.Cmd) error {
	if cmd.Err != nil {
		return cmd.Err
	}
	size := windows.Coord{X: consoleColumns, Y: consoleRows}
	out, ok := cmd.Stderr.(*os.File)
	if !ok {
		return errors.New("a console needs a pipe to print to")
	}
	if err := windows.CreatePseudoConsole(size, windows.Handle(t.theirs.Fd()), windows.Handle(out.Fd()), 0, &t.console); err != nil {
		return fmt.Errorf("make a console: %w", err)
	}
	_ = t.theirs.Close() // the console has its own
	t.theirs = nil
	attributes, err := windows.NewProcThreadAttributeList(1)
	if err != nil {
		return fmt.Errorf("make a console: %w", err)
	}
	defer attributes.Delete()
	// The attribute is the handle itself, where others are pointers.
	if err := attributes.Update(windows.PROC_THREAD_ATTRIBUTE_PSEUDOCONSOLE,
		*(*unsafe.Pointer)(unsafe.Pointer(&t.console)), unsafe.Sizeof(t.console)); err != nil {
		return fmt.Errorf("give tsh a console: %w", err)
	}
	pid, err := createProcess(cmd, attributes.List())
	if err != nil {
		return err
	}
	if cmd.Process, err = os.FindProcess(pid); err != nil {
		return fmt.Errorf("find the child: %w", err)
	}
	return nil
}

// createProcess starts cmd, suspended, with attributes, and with none of our
// handles.
func createProcess(cmd *exec.Cmd, attributes *windows.ProcThreadAttributeList) (pid int, err error) {
	path, err := windows.UTF16PtrFromString(cmd.Path)
	if err != nil {
		return 0, err
	}
	line, err := windows.UTF16PtrFromString(windows.ComposeCommandLine(cmd.Args))
	if err != nil {
		return 0, err
	}
	var env []uint16
	for _, kv := range cmd.Environ() {
		one, err := windows.UTF16FromString(kv)
		if err != nil {
			return 0, err
		}
		env = slices.Concat(env, one)
	}
	env = append(env, 0)
	si := windows.StartupInfoEx{ProcThreadAttributeList: attributes}
	si.Cb = uint32(unsafe.Sizeof(si))
	si.Flags = windows.STARTF_USESTDHANDLES // none of ours: the console fills them in
	var started windows.ProcessInformation
	if err := windows.CreateProcess(path, line, nil, nil, false,
		cmd.SysProcAttr.CreationFlags|windows.EXTENDED_STARTUPINFO_PRESENT|windows.CREATE_UNICODE_ENVIRONMENT,
		&env[0], nil, &si.StartupInfo, &started); err != nil {
		return 0, &os.PathError{Op: "start", Path: cmd.Path, Err: err}
	}
	_ = windows.CloseHandle(started.Thread)
	_ = windows.CloseHandle(started.Process) // suspended: it stays until it is opened again
	return int(started.ProcessId), nil
}

// hangUp ends the console, and with it what is printed to it.
func (t *terminal) hangUp() {
	if t.console != 0 {
		windows.ClosePseudoConsole(t.console)
		t.console = 0
	}
}

// Close takes the terminal away.
func (t *terminal) Close() error {
	t.hangUp()
	if t.theirs != nil {
		_ = t.theirs.Close()
	}
	return t.in.Close()
}
