package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"berth/internal/paths"
	"berth/internal/plain"
	"berth/internal/wake"
)

const (
	// logPoll is how often a followed log is looked at.
	logPoll = 300 * time.Millisecond
	// logTail is how much of the log's end the last lines are looked for in.
	logTail = 4 << 20
)

type logsOptions struct {
	lines   int
	follow  bool
	journal bool
}

func (a *app) agentLogsCommand() *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use:   "logs [flags]",
		Short: "Show the end of the agent's log",
		Long: `Show the end of the agent's log file. What the agent's process printed beside
it, as when it crashed, is in the journal where systemd runs it: see --journal.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.lines < 0 {
				return usageError{withHint(fmt.Errorf("there are no %d lines", o.lines), seeHelp(cmd))}
			}
			if o.journal {
				return a.journal(cmd.Context(), o)
			}
			return a.logs(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.IntVarP(&o.lines, "lines", "n", 100, "how many lines")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with what is added, until Ctrl-C")
	f.BoolVar(&o.journal, "journal", false, "show what systemd's journal has instead")
	must(cmd.RegisterFlagCompletionFunc("lines", cobra.NoFileCompletions))
	return cmd
}

// journal shows the unit's journal with systemd's own program.
func (a *app) journal(ctx context.Context, o logsOptions) error {
	if runtime.GOOS != "linux" {
		return usageError{withHint(errors.New("only systemd has a journal"), `see "berth agent logs"`)}
	}
	args := []string{"--user", "--unit", serviceName(a.env(paths.HomeVar)) + ".service", "--no-pager", "--lines", strconv.Itoa(o.lines)}
	if o.follow {
		args = append(args, "--follow")
	}
	cmd := exec.CommandContext(ctx, "journalctl", args...)
	out := &cleaning{w: a.out}
	cmd.Stdout, cmd.Stderr = out, a.err
	err := errors.Join(cmd.Run(), out.end())
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil {
		return childError{exit.ExitCode()}
	}
	if err != nil && ctx.Err() == nil {
		return withHint(fmt.Errorf("ask the journal: %w", err), `see "berth agent logs"`)
	}
	return nil
}

// logs shows the end of the log file, and follows it.
func (a *app) logs(ctx context.Context, o logsOptions) error {
	p, err := paths.Resolve(a.env)
	if err != nil {
		return err
	}
	log, err := os.Open(p.LogFile)
	if errors.Is(err, fs.ErrNotExist) {
		return withHint(fmt.Errorf("there is no log yet: %s", p.LogFile), `start the agent with "berth agent install" or "berth agent run"`)
	}
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer func() { _ = log.Close() }()
	if err := copyTail(a.out, log, o.lines); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	for o.follow {
		if !wake.Sleep(ctx, logPoll) {
			return nil
		}
		if log, err = followed(log, p.LogFile); err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		if err := copyClean(a.out, log); err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
	}
	return nil
}

// followed is the log to read on from: a new file, once the old one was
// rotated away and is read to its end.
func followed(log *os.File, path string) (*os.File, error) {
	now, err := os.Stat(path)
	if err != nil {
		return log, nil // between two files
	}
	have, err := log.Stat()
	if err != nil {
		return log, err
	}
	at, err := log.Seek(0, io.SeekCurrent)
	if err != nil {
		return log, err
	}
	if os.SameFile(now, have) || at < have.Size() {
		return log, nil
	}
	next, err := os.Open(path)
	if err != nil {
		return log, nil // it is not there yet: another time
	}
	return next, log.Close()
}

// cleaning cleans what is written to it as copyClean does, and passes each line on when
// it is complete.
type cleaning struct {
	w    io.Writer
	rest []byte // the beginning of a line
}

func (c *cleaning) Write(p []byte) (int, error) {
	c.rest = append(c.rest, p...)
	end := bytes.LastIndexByte(c.rest, '\n') + 1
	if end == 0 {
		return len(p), nil
	}
	_, err := io.WriteString(c.w, plain.Text(string(c.rest[:end])))
	c.rest = append(c.rest[:0], c.rest[end:]...)
	return len(p), err
}

// end passes on a last line that has no end.
func (c *cleaning) end() error { return copyClean(c.w, bytes.NewReader(c.rest)) }

// copyTail copies the last lines of a file.
func copyTail(w io.Writer, f *os.File, lines int) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	from := max(0, info.Size()-logTail)
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	at := len(text)
	for n := 0; at > 0; at-- {
		if text[at-1] == '\n' && at < len(text) {
			if n++; n >= lines {
				break
			}
		}
	}
	if lines <= 0 {
		at = len(text)
	}
	return copyClean(w, bytes.NewReader(text[at:]))
}

// copyClean copies text to what may be a terminal: the log holds names that
// others have chosen.
func copyClean(w io.Writer, r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil || len(text) == 0 {
		return err
	}
	_, err = io.WriteString(w, plain.Text(string(text)))
	return err
}
