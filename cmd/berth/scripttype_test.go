package main

import (
	"context"
	"os/exec"
	"strings"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"

	"berth/internal/simworld"
	"berth/internal/testwait"
)

// cmdType runs a command at a terminal, and answers as a person would: when the
// text of a line's left side has appeared, its right side is typed. What the
// terminal got is stdout.
func cmdType(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: type FILE COMMAND [ARG...]")
	}
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 3*wait)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args[2:]...)
	for _, name := range []string{"BERTH_HOME", "TELEPORT_HOME", "HOME", "PATH", "TERM", "SHELL", "TMPDIR", "GORACE"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	terminal, err := pty.Start(cmd)
	ts.Check(err)
	got := &simworld.Log{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, err := terminal.Read(buf)
			_, _ = got.Write(buf[:n])
			if err != nil {
				return // the other side is gone
			}
		}
	}()
	begun, seen := time.Now(), 0
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		prompt, answer, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " => ")
		if !testwait.Until(func() bool { return strings.Contains(got.String()[seen:], prompt) }) {
			cancel()
			ts.Fatalf("the terminal never shows %q:\n%s", prompt, got)
		}
		seen += strings.Index(got.String()[seen:], prompt) + len(prompt)
		_, err := terminal.Write([]byte(answer + "\n"))
		ts.Check(err)
	}
	err = cmd.Wait()
	<-ended
	_ = terminal.Close()
	ts.Logf("typed in %v", time.Since(begun).Round(time.Millisecond))
	text := strings.ReplaceAll(got.String(), "\r\n", "\n")
	_, werr := ts.Stdout().Write([]byte(text))
	ts.Check(werr)
	if (err != nil) != neg {
		ts.Fatalf("%v ended with %v:\n%s", args[1:], err, text)
	}
}
