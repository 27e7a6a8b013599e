package main

import (
	"bufio"
	"context"
	"os"
	"strings"

	"golang.org/x/sys/windows"
)

// silence has a console take lines and show nothing of what is typed. The func that it
// returns ends that; forget drops what was typed and not read.
func silence(console *os.File) (loud func(forget bool), err error) {
	handle := windows.Handle(console.Fd())
	var before uint32
	if err := windows.GetConsoleMode(handle, &before); err != nil {
		return nil, err
	}
	silent := before&^windows.ENABLE_ECHO_INPUT | windows.ENABLE_PROCESSED_INPUT | windows.ENABLE_LINE_INPUT
	if err := windows.SetConsoleMode(handle, silent); err != nil {
		return nil, err
	}
	return func(forget bool) {
		if forget {
			_ = windows.FlushConsoleInputBuffer(handle) // what is left is shown at worst
		}
		_ = windows.SetConsoleMode(handle, before) // it may have gone
	}, nil
}

// readTyped reads a line from a console until ctx ends. A console says that a key was
// pressed, not that there is a line, so the read waits, and takes the next line where ctx
// has ended.
func readTyped(ctx context.Context, console *os.File) (string, error) {
	type line struct {
		text string
		err  error
	}
	read := make(chan line, 1)
	go func() {
		text, err := bufio.NewReader(console).ReadString('\n')
		read <- line{strings.TrimRight(text, "\r\n"), err}
	}()
	select {
	case got := <-read:
		return got.text, got.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
