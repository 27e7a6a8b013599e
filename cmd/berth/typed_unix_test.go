//go:build unix

package main

import (
	"bufio"
	"strings"
	"testing"
	"time"

	"golang.org/x/term"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/pty"
	"berth/internal/simworld"
	"berth/internal/testwait"
)

// TestAnsweredElsewhere types at a terminal once another one has answered: the next prompt
// gets it, or the program that reads next, and never the reader that asked first.
func TestAnsweredElsewhere(t *testing.T) {
	t.Parallel()
	keys, terminal, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = keys.Close(), terminal.Close() })
	before, err := term.GetState(int(terminal.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	said := &simworld.Log{}
	f := &loginFront{app: &app{in: terminal, out: said, err: said}}
	answered := make(chan string, 1)
	show := func(kind state.LoginKind, id int64) {
		t.Helper()
		e := client.LoginEvent{ID: id, Kind: kind, Text: string(kind) + "?"}
		if err := f.show(t.Context(), e, func(secret string) { answered <- string(kind) + ": " + secret }); err != nil {
			t.Fatal(err)
		}
	}
	typed := func(text string) {
		t.Helper()
		if _, err := keys.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	receive := func(from <-chan string, want string) {
		t.Helper()
		select {
		case got := <-from:
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		case <-time.After(testwait.Patience):
			t.Fatalf("nothing got %q", want)
		}
	}

	show(state.LoginPassword, 1)
	typed("the beginn")
	show(state.LoginSettled, 1)
	show(state.LoginOTP, 2)
	typed("123456\n")
	receive(answered, "otp: 123456")

	show(state.LoginPassword, 3)
	typed("of another")
	show(state.LoginSettled, 3)
	show(state.LoginPassword, 4)
	f.restore() // as after a login that ended with a question
	if now, err := term.GetState(int(terminal.Fd())); err != nil || *now != *before {
		t.Errorf("the terminal is %+v and was %+v, %v", now, before, err)
	}
	lines := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(terminal).ReadString('\n')
		lines <- line
	}()
	typed("select 1;\n")
	receive(lines, "select 1;\n")
	if n := strings.Count(said.String(), "answered elsewhere"); n != 2 {
		t.Errorf("it said %q", said.String())
	}
}
