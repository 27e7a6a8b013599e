package simkube

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"
)

// process is a command that runs in a pod.
type process struct {
	s      *Server
	pod    key
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	tty    bool
}

// exitStatus is how a command that failed ended.
type exitStatus int

func (e exitStatus) Error() string {
	return "command terminated with non-zero exit code: exit status " + strconv.Itoa(int(e))
}

// notFoundError is a command that does not exist.
type notFoundError string

func (e notFoundError) Error() string {
	return fmt.Sprintf("exec: %q: executable file not found in $PATH", string(e))
}

func programs() map[string]func(*process, context.Context, []string) error {
	return map[string]func(*process, context.Context, []string) error{
		"cat": (*process).cat, "echo": (*process).echo, "ls": (*process).ls, "sh": (*process).sh, "sleep": (*process).sleep,
		"tar": (*process).tar, "test": (*process).test, "true": (*process).succeed,
	}
}

// run runs a command to its end.
func (p *process) run(ctx context.Context, argv []string) error {
	if len(argv) == 0 {
		return notFoundError("")
	}
	program, ok := programs()[path.Base(argv[0])]
	if !ok {
		return notFoundError(argv[0])
	}
	return program(p, ctx, argv[1:])
}

// say writes to stdout. A client that left is noticed elsewhere.
func (p *process) say(format string, args ...any) error {
	_, err := fmt.Fprintf(p.stdout, format, args...)
	return err
}

// complain writes to stderr and ends with a code.
func (p *process) complain(code int, format string, args ...any) error {
	_, _ = fmt.Fprintf(p.stderr, format+"\n", args...) // the client may be gone
	return exitStatus(code)
}

func (*process) succeed(context.Context, []string) error { return nil }

func (p *process) echo(_ context.Context, args []string) error {
	return p.say("%s\n", strings.Join(args, " "))
}

func (p *process) cat(_ context.Context, args []string) error {
	if len(args) == 0 {
		_, err := io.Copy(p.stdout, p.stdin)
		return err
	}
	for _, name := range args {
		data, err := p.s.files.read(p.pod, name)
		if err != nil {
			return p.complain(1, "cat: %v", err)
		}
		if _, err := p.stdout.Write(data); err != nil {
			return err
		}
	}
	return nil
}

func (p *process) sleep(ctx context.Context, args []string) error {
	d := time.Duration(1) << 62
	if len(args) == 1 && args[0] != "infinity" {
		sec, err := strconv.ParseFloat(args[0], 64)
		if err != nil {
			return p.complain(1, "sleep: invalid time interval %q", args[0])
		}
		d = time.Duration(sec * float64(time.Second))
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return exitStatus(137)
	}
}

func (p *process) ls(_ context.Context, args []string) error {
	dir := "/"
	if len(args) > 0 {
		dir = args[len(args)-1]
	}
	if !p.s.files.exists(p.pod, dir) {
		return p.complain(2, "ls: cannot access '%s': No such file or directory", dir)
	}
	for _, n := range p.s.files.below(p.pod, dir) {
		if path.Dir(n) == absolute(dir) && n != "/" {
			if err := p.say("%s\n", path.Base(n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// test knows what "kubectl cp" asks of it: whether a folder is there.
func (p *process) test(_ context.Context, args []string) error {
	if len(args) == 2 && args[0] == "-d" && p.s.files.isDir(p.pod, args[1]) {
		return nil
	}
	return exitStatus(1)
}

// tar knows what "kubectl cp" asks of it: to write an archive to stdout, and
// to unpack one from stdin.
func (p *process) tar(_ context.Context, args []string) error {
	var names []string
	dir, unpack := "/", false
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "-C" && i+1 < len(args):
			i++
			dir = args[i]
		case a == "-", strings.HasPrefix(a, "--"):
		case i == 0 && !strings.HasPrefix(a, "-"), strings.HasPrefix(a, "-"):
			unpack = unpack || strings.Contains(a, "x")
		default:
			names = append(names, a)
		}
	}
	var err error
	if unpack {
		err = p.s.files.unpack(p.pod, p.stdin, dir)
	} else {
		err = p.s.files.pack(p.pod, p.stdout, names)
	}
	if err != nil {
		return p.complain(2, "%v", err)
	}
	return nil
}

// sh runs a line given with -c, or reads lines.
func (p *process) sh(ctx context.Context, args []string) error {
	if len(args) >= 2 && args[0] == "-c" {
		return p.line(ctx, args[1])
	}
	in := bufio.NewReader(p.stdin)
	var last error
	for {
		if p.tty {
			if err := p.say("%s", "/ # "); err != nil {
				return err
			}
		}
		text, err := p.readLine(in)
		if err != nil {
			return last
		}
		last = p.line(ctx, text)
		var code exitStatus
		var quit exitNow
		switch {
		case errors.As(last, &quit):
			return asExit(int(quit))
		case last != nil && !errors.As(last, &code):
			_ = p.complain(127, "sh: %v", last)
			last = exitStatus(127)
		}
	}
}

// exitNow is the exit command in a shell.
type exitNow int

func (e exitNow) Error() string { return "exit " + strconv.Itoa(int(e)) }

func asExit(code int) error {
	if code == 0 {
		return nil
	}
	return exitStatus(code)
}

// readLine reads a line, and on a terminal echoes what is typed.
func (p *process) readLine(in *bufio.Reader) (string, error) {
	var text []byte
	for {
		c, err := in.ReadByte()
		if err != nil || (p.tty && c == 4 && len(text) == 0) { // Ctrl-D
			return "", io.EOF
		}
		if p.tty {
			echo := string(rune(c))
			if c == '\r' || c == '\n' {
				echo = "\r\n"
			}
			if err := p.say("%s", echo); err != nil {
				return "", err
			}
		}
		if c == '\r' || c == '\n' {
			return string(text), nil
		}
		text = append(text, c)
	}
}

// line runs commands joined by ";" and "&&".
func (p *process) line(ctx context.Context, text string) error {
	var last error
	for part := range strings.SplitSeq(text, ";") {
		for cmd := range strings.SplitSeq(part, "&&") {
			words := split(cmd)
			if len(words) == 0 {
				continue
			}
			if last = p.command(ctx, words); last != nil {
				break
			}
		}
		if _, ok := errors.AsType[exitNow](last); ok {
			return last
		}
		if ctx.Err() != nil {
			return last // whoever runs it is gone: a signal would have ended it
		}
	}
	return last
}

// command runs one command of a shell, with ">&2".
func (p *process) command(ctx context.Context, words []string) error {
	if words[0] == "exit" {
		code := 0
		if len(words) > 1 {
			code, _ = strconv.Atoi(words[1]) // what is no number is 0
		}
		return exitNow(code)
	}
	if n := len(words); words[n-1] == ">&2" {
		q := *p
		q.stdout = p.stderr
		return q.run(ctx, words[:n-1])
	}
	return p.run(ctx, words)
}

// split splits a command into words, minding quotes.
func split(cmd string) []string {
	var words []string
	var word strings.Builder
	inWord, quote := false, rune(0)
	for _, c := range cmd {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, inWord = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			word.WriteRune(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words
}
