package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gravitational/trace"
	"github.com/rogpeppe/go-internal/testscript"

	"berth/internal/pty/ptytest"
	"berth/internal/simcluster"
	"berth/internal/testwait"
)

// cmdRecord has the cluster hold a recording.
func cmdRecord(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || len(args) > 2 {
		ts.Fatalf("usage: record NAME [live|readable|future|empty|cut]")
	}
	w := worldOf(ts)
	ended := time.Now().Add(-time.Hour)
	if args[0] == "hostile" {
		evil := "\x1b]0;owned\a\x1b]52;c;aGVsbG8=\a\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\\u202egnp.exe\u2066</script><script>alert(1)</script>\x1b[6n\xff\xfe\a\a\r\n"
		s := simcluster.PrintedSession("5e00000a-0000-4000-8000-00000000000a", evil, ended, time.Second, evil, "secret-12", "345\r\n", "\x1b[9;4Hwn-9\x1b[9;1Hdra\r\n", evil)
		s.User = "alice"
		w.Sim.Record(s)
		return
	}
	if slices.Contains(args[1:], "future") { // this machine's clock is behind
		ended = ended.Add(10 * time.Hour)
	}
	s, err := simcluster.Golden(args[0], "alice", ended)
	ts.Check(err)
	switch strings.Join(args[1:], " ") {
	case "live":
		s.Running, s.Events = true, s.Events[:2]
	case "readable": // as it goes on, which no version of Teleport seen allows
		s.Running, s.Readable, s.Events = true, true, s.Events[:len(s.Events)-3]
	case "empty": // an archive of 0 bytes, and no event says when the session ended
		s.Vague, s.Events = true, nil
	case "cut":
		s.BreakAt, s.Error = 3, trace.BadParameter("unexpected EOF in the archive")
	}
	w.Sim.Record(s)
}

// cmdPlayed plays a recording on a terminal of 80 by 24, or of another width, and
// does the steps after "--": a text waits until the terminal has got it, key:K
// presses keys, TERM sends the signal. What the terminal got becomes stdout, and a
// line with the exit code. The player must end, and leave the terminal as it was.
func cmdPlayed(ts *testscript.TestScript, neg bool, args []string) {
	split := -1
	for i, arg := range args {
		if arg == "--" {
			split = i
		}
	}
	if neg || split < 1 {
		ts.Fatalf("usage: played [cols=N] ID [FLAG...] -- STEP...")
	}
	size, words := &ptytest.Size{Columns: 80, Rows: 24}, args[:split]
	if words[0] == "cols=20" {
		size.Columns, words = 20, words[1:]
	}
	path, err := exec.LookPath("berth")
	ts.Check(err)
	cmd := exec.CommandContext(context.Background(), path, append([]string{"recording", "play"}, words...)...)
	for _, name := range []string{"BERTH_HOME", "HOME", "PATH", "TERM", "GORACE", "GOCOVERDIR"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	tty, err := ptytest.Start(cmd, size)
	ts.Check(err)
	var got terminalOutput
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(&got, tty) // its end is an error: the other side is gone
	}()
	for _, step := range args[split+1:] {
		keys, isKey := strings.CutPrefix(step, "key:")
		switch {
		case isKey:
			_, err := io.WriteString(tty, strings.NewReplacer("ENTER", "\r", "RIGHT", "\x1b[C", "LEFT", "\x1b[D").Replace(keys))
			ts.Check(err)
		case step == "TERM":
			ts.Check(cmd.Process.Signal(syscall.SIGTERM))
		case !testwait.Until(func() bool { return strings.Contains(got.String(), step) }):
			_ = cmd.Process.Kill()
			ts.Fatalf("the terminal did not get %q:\n%q", step, got.String())
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended: // with a signal it is an error
	case <-time.After(testwait.Patience):
		_ = cmd.Process.Kill()
		ts.Fatalf("the player does not end:\n%q", got.String())
	}
	<-copied
	ts.Check(tty.Close())
	text := []byte(got.String())
	if begin, end := bytes.Index(text, []byte("\x1b[?1049h")), bytes.LastIndex(text, []byte("\x1b[?25h\x1b[?1049l")); begin < 0 || end < begin {
		ts.Fatalf("the terminal was not left as it was:\n%q", text)
	}
	if bytes.Contains(text, []byte("\x1b]")) {
		ts.Fatalf("the terminal got another program's command:\n%q", text)
	}
	_, err = fmt.Fprintf(ts.Stdout(), "%s\nexit %d\n", text, cmd.ProcessState.ExitCode())
	ts.Check(err)
}

// terminalOutput is written by one goroutine and read by another.
type terminalOutput struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *terminalOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *terminalOutput) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
