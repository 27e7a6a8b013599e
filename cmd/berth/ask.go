package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"berth/internal/plain"
)

// errUnanswered is a question at a terminal that has ended.
var errUnanswered = errors.New("the question was not answered")

// canAsk reports whether berth can ask the user: whether it reads a terminal.
func (a *app) canAsk() bool {
	in, ok := a.in.(*os.File)
	return ok && term.IsTerminal(int(in.Fd()))
}

// askLine asks for a line at the terminal. The end of ctx before it, as by Ctrl-C, and
// that of the terminal are errors: neither is Enter, which many a question takes for a
// yes.
func (a *app) askLine(ctx context.Context, question string) (string, error) {
	fmt.Fprint(a.err, plain.Line(question)+" ")
	var line string
	read := make(chan error, 1)
	go func() { // without an answer it reads until berth ends
		got, err := bufio.NewReader(a.in).ReadString('\n')
		line = got
		read <- err
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(a.err) // what is said next does not go on this line
		return "", context.Cause(ctx)
	case err := <-read:
		switch {
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		case err != nil && line == "":
			fmt.Fprintln(a.err)
			return "", errUnanswered
		}
		return strings.TrimSpace(line), nil
	}
}

// confirm asks a yes or no; no answer means no.
func (a *app) confirm(ctx context.Context, question string) bool {
	answer, err := a.askLine(ctx, question+" [y/N]")
	return err == nil && isYes(answer)
}

// confirmYes asks a yes or no; Enter alone means yes. The errors are those of askLine.
func (a *app) confirmYes(ctx context.Context, question string) (bool, error) {
	answer, err := a.askLine(ctx, question+" [Y/n]")
	return err == nil && (answer == "" || isYes(answer)), err
}

func isYes(answer string) bool {
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes")
}
