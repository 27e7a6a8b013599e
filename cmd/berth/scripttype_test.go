package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"berth/internal/pty"
	"berth/internal/pty/ptytest"
	"berth/internal/simworld"
	"berth/internal/testwait"
)

// cmdType runs a command at a terminal, and answers as a person would: when the
// text of a line's left side has appeared, its right side is typed; ^C and ^D are those keys.
// What the terminal, of $SIZE columns x rows if that is set, got is stdout.
func cmdType(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: type FILE COMMAND [ARG...]")
	}
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 3*testwait.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args[2:]...)
	for _, name := range []string{"BERTH_HOME", "TELEPORT_HOME", "HOME", "PATH", "TERM", "SHELL", "TMPDIR", "GORACE", "GOCOVERDIR", "XDG_CONFIG_DIRS", "XDG_DATA_DIRS"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	terminal, err := ptytest.Start(cmd, terminalOfSize(ts))
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
		keys := answer + "\n"
		if key, ok := map[string]string{"^C": "\x03", "^D": "\x04"}[answer]; ok {
			keys = key
		}
		_, err := terminal.Write([]byte(keys))
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

// terminalOfSize is the size of a script's terminals; nil leaves it open.
func terminalOfSize(ts *testscript.TestScript) *ptytest.Size {
	size := ts.Getenv("SIZE")
	if size == "" {
		return nil
	}
	var s ptytest.Size
	_, err := fmt.Sscanf(size, "%dx%d", &s.Columns, &s.Rows)
	ts.Check(err)
	return &s
}

func cmdTerm(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: term COMMAND [ARG...]")
	}
	terminal, tty, err := pty.Open()
	ts.Check(err)
	if size := terminalOfSize(ts); size != nil {
		ts.Check(ptytest.Resize(tty, *size))
	}
	path, err := exec.LookPath(args[0])
	ts.Check(err)
	cmd := exec.CommandContext(context.Background(), path, args[1:]...)
	for _, name := range []string{"BERTH_HOME", "HOME", "PATH", "NO_COLOR", "TERM", "GORACE", "GOCOVERDIR", "SCRIPT_POLICY"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	cmd.Stdout, cmd.Stderr = tty, tty
	got := make(chan []byte, 1)
	go func() {
		raw, _ := io.ReadAll(terminal) // its end is an error: the other side is gone
		got <- raw
	}()
	err = cmd.Run()
	ts.Check(errors.Join(err, tty.Close()))
	_, err = ts.Stdout().Write(<-got)
	ts.Check(errors.Join(err, terminal.Close()))
}
