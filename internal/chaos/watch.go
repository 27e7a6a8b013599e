//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"berth/internal/simcluster/simkube"
)

// tick is the label that watches wait for.
const tick = "tick"

// watching is a kubectl that watches a pod: each change has to arrive, in order.
type watching struct {
	api   *simkube.Server
	pod   string
	cmd   *exec.Cmd
	end   context.CancelFunc
	lines chan string // closed at the end of the watch
	said  bytes.Buffer
}

// watched counts the pods that are watched, so that no two are the same.
var watched atomic.Int64

// watchKubectl returns how a kubectl that watches is started.
func watchKubectl(w *world, t tunnel) func(context.Context) (session, error) {
	pod := fmt.Sprintf("watched-%d", watched.Add(1))
	w.kubes[t.resource].AddPod("default", pod, map[string]string{tick: "none"})
	return func(ctx context.Context) (session, error) { return w.startWatch(ctx, t, pod) }
}

func (w *world) startWatch(ctx context.Context, t tunnel, pod string) (session, error) {
	own, end := context.WithCancel(context.Background()) // it ends by close
	s := &watching{api: w.kubes[t.resource], pod: pod, end: end, lines: make(chan string, 16)}
	s.cmd = w.command(own, "kubectl", w.kubectl(t, "get", "pod", pod, "--watch", "-o", `jsonpath={.metadata.labels.`+tick+`}{"\n"}`)...)
	s.cmd.Stderr = &s.said
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		end()
		return nil, err
	}
	go func() {
		defer close(s.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			select {
			case s.lines <- lines.Text():
			case <-own.Done():
			}
		}
	}()
	if err := s.begin(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// begin waits until kubectl watches: it has printed the pod before it does, and
// misses a change in between.
func (s *watching) begin(ctx context.Context) error {
	if _, err := s.next(ctx); err != nil {
		return err
	}
	for n := 1; ; n++ {
		mark := fmt.Sprintf("begin-%d", n)
		if err := s.api.SetLabel("default", s.pod, tick, mark); err != nil {
			return err
		}
		soon, cancel := context.WithTimeout(ctx, beginPause)
		line, err := s.next(soon)
		for err == nil && line != mark {
			line, err = s.next(soon)
		}
		waited := soon.Err() != nil
		cancel()
		if err == nil || ctx.Err() != nil || !waited {
			return err
		}
	}
}

// beginPause is how long a change may take to be printed before another one
// tries whether kubectl watches.
const beginPause = time.Second

func (s *watching) next(ctx context.Context) (string, error) {
	select {
	case line, ok := <-s.lines:
		if !ok {
			err := s.cmd.Wait()
			return "", fmt.Errorf("kubectl's watch has ended: %w: %s", orEnded(err), strings.TrimSpace(s.said.String()))
		}
		return line, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// ask changes the pod and waits for kubectl to say so.
func (s *watching) ask(ctx context.Context, token string) error {
	if err := s.api.SetLabel("default", s.pod, tick, token); err != nil {
		return err
	}
	got, err := s.next(ctx)
	if err != nil {
		return err
	}
	return equal(got, token)
}

func (s *watching) close() {
	s.end()
	for range s.lines { // what it still had
		continue
	}
	_ = s.cmd.Wait() // it was killed
}

// endedError is a program's end without an error of its own.
type endedError struct{}

func (endedError) Error() string { return "without an error" }

func orEnded(err error) error {
	if err == nil {
		return endedError{}
	}
	return err
}
