//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxTyped is more than a terminal takes as one line.
const maxTyped = 4096

// silence has a terminal take lines and show nothing of what is typed. The func that it
// returns ends that; forget drops what was typed and not read.
func silence(terminal *os.File) (loud func(forget bool), err error) {
	fd := int(terminal.Fd())
	before, err := unix.IoctlGetTermios(fd, getAttributes)
	if err != nil {
		return nil, err
	}
	silent := *before
	silent.Lflag = silent.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	silent.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(fd, setAttributes, &silent); err != nil {
		return nil, err
	}
	return func(forget bool) {
		set := uint(setAttributes)
		if forget {
			forgetArriving(fd)
			set = setAndForget
		}
		_ = unix.IoctlSetTermios(fd, set, before) // it may have gone
	}, nil
}

// readTyped reads a line from a terminal until ctx ends. It reads only what is there: a
// read that waits could not be taken back, and would take what the next one is to get.
func readTyped(ctx context.Context, terminal *os.File) (string, error) {
	woken, wake, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer func() { _, _ = woken.Close(), wake.Close() }()
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = wake.Close() // which is something to read at the other end
	})
	defer func() {
		if !stop() {
			<-ended
		}
	}()
	var line []byte
	buf := make([]byte, maxTyped)
	for {
		if err := awaitInput(int(terminal.Fd()), int(woken.Fd())); err != nil {
			return "", err
		}
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		n, err := unix.Read(int(terminal.Fd()), buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return "", err
		case n == 0:
			return string(line), io.EOF
		}
		line = append(line, buf[:n]...)
		if text, whole := bytes.CutSuffix(line, []byte("\n")); whole {
			return string(text), nil
		}
	}
}

// awaitInput waits until one of two files has something to read. It is select, since
// macOS has no poll for terminals.
func awaitInput(one, other int) error {
	for {
		var set unix.FdSet
		set.Set(one)
		set.Set(other)
		if _, err := unix.Select(max(one, other)+1, &set, nil, nil, nil); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
