package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"berth/internal/wake"
)

// speaker is a pattern's program that runs: it gets commands and prints lines.
type speaker struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr strings.Builder
	load   *loadMeter
	read   sync.WaitGroup
	news   wake.Signal

	mu    sync.Mutex
	heard map[string]time.Time // lines, and when each came first
}

func (b *bench) runPattern(ctx context.Context, p *pattern, at *place) (*speaker, error) {
	s := &speaker{
		cmd:  exec.CommandContext(ctx, p.program, "-home", at.home, "-tsh", at.tsh, "-ca", at.caFile, "-poll", pollEvery.String()),
		load: &b.load, news: wake.NewSignal(), heard: make(map[string]time.Time),
	}
	s.cmd.Stderr = &s.stderr
	s.cmd.WaitDelay = 10 * time.Second
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.read.Go(func() {
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			s.mu.Lock()
			if _, again := s.heard[lines.Text()]; !again {
				s.heard[lines.Text()] = time.Now()
			}
			s.mu.Unlock()
			s.news.Wake()
		}
	})
	return s, nil
}

func (s *speaker) pid() int { return s.cmd.Process.Pid }

func (s *speaker) say(command string) error {
	_, err := fmt.Fprintln(s.stdin, command)
	return err
}

// ask says a command and waits for a line.
func (s *speaker) ask(ctx context.Context, command, line string) error {
	if err := s.say(command); err != nil {
		return err
	}
	_, err := s.hear(ctx, line)
	return err
}

// hear waits for a line and returns when it came.
func (s *speaker) hear(ctx context.Context, line string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for {
		s.mu.Lock()
		at, ok := s.heard[line]
		s.mu.Unlock()
		if ok {
			return at, nil
		}
		select {
		case <-s.news:
		case <-ctx.Done():
			return at, fmt.Errorf("%s did not say %q: %w", s.cmd.Path, line, context.Cause(ctx))
		}
	}
}

// stop ends the program, which ends with its input.
func (s *speaker) stop() error {
	err := s.stdin.Close()
	s.read.Wait()
	if wait := s.cmd.Wait(); wait != nil {
		err = errors.Join(err, fmt.Errorf("%s: %w: %s", s.cmd.Path, wait, s.stderr.String()))
	}
	s.load.addChild(s.cmd.ProcessState)
	return err
}
