package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/shirou/gopsutil/v4/process"
)

// memory is a process's resident memory, in bytes.
type memory struct {
	rss  int64 // all of it
	file int64 // of that, pages of files, the program's own above all; 0 where the system does not tell
}

// parseStatus reads the memory from the text of /proc/PID/status.
func parseStatus(text []byte) (memory, error) {
	var m memory
	for key, to := range map[string]*int64{"VmRSS": &m.rss, "RssFile": &m.file} {
		_, rest, ok := bytes.Cut(text, []byte("\n"+key+":"))
		if !ok {
			return memory{}, fmt.Errorf("no %s in the process's status", key)
		}
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		number, ok := bytes.CutSuffix(bytes.TrimSpace(line), []byte(" kB"))
		if !ok {
			return memory{}, fmt.Errorf("%s is %q, not in kB", key, bytes.TrimSpace(line))
		}
		kb, err := strconv.ParseInt(string(bytes.TrimSpace(number)), 10, 64)
		if err != nil {
			return memory{}, fmt.Errorf("%s: %w", key, err)
		}
		*to = kb << 10
	}
	return m, nil
}

// self is the runner's own process.
func self() int { return os.Getpid() }

// childrenOf counts the processes that a process has started and that run.
func childrenOf(ctx context.Context, pid int) (int, error) {
	p, err := process.NewProcessWithContext(ctx, int32(pid))
	if err != nil {
		return 0, err
	}
	children, err := p.ChildrenWithContext(ctx)
	if errors.Is(err, process.ErrorNoChildren) {
		return 0, nil
	}
	return len(children), err
}
