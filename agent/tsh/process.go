package tsh

import (
	"io"
	"os"
	"runtime"
	"sync"
	"time"
)

// writer is where a child's output goes; its Write never fails.
type writer = io.Writer

// process is a child with everything it has started.
type process struct {
	pid  int
	done chan struct{} // closed when all of them are gone and their output is read
	err  error         // what Wait returned; read after done
	cut  error         // the context's error if it ended the child; read after done
}

// startProcess starts c in a process group (on Windows a job) of its own. Where stdout
// and stderr are one writer they are one pipe, which keeps their order.
// When c's context ends the group is asked to end, and after its WaitDelay
// killed; when c ends by itself, what it left behind is killed.
func startProcess(c *Cmd, stdout, stderr writer) (*process, error) {
	out, err := newOutput(stdout)
	if err != nil {
		return nil, err
	}
	outputs, errOut := []*output{out}, out
	if stderr != stdout {
		if errOut, err = newOutput(stderr); err != nil {
			out.discard()
			return nil, err
		}
		outputs = append(outputs, errOut)
	}
	c.cmd.Stdout, c.cmd.Stderr = out.w, errOut.w
	p := &process{done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(c, started, outputs...)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run starts c, waits for it and cleans up. On Linux the signal that a child
// gets when its parent dies is sent when the parent's *thread* ends: this
// goroutine keeps its thread for as long as the child lives.
func (p *process) run(c *Cmd, started chan<- error, outputs ...*output) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	g := newGroup(c)
	if err := g.start(); err != nil {
		for _, o := range outputs {
			o.discard()
		}
		started <- err
		return
	}
	p.pid = c.cmd.Process.Pid
	for _, o := range outputs {
		o.copy()
	}
	started <- nil
	p.err = c.cmd.Wait()
	p.cut = c.ctxErr()
	g.kill()
	for _, o := range outputs {
		o.finish()
	}
	close(p.done)
}

// output carries one of a child's streams to a writer. It is a pipe of our
// own: with os/exec's, Wait would wait for the child's children as well.
type output struct {
	r, w *os.File
	to   writer
	wg   sync.WaitGroup
}

func newOutput(to writer) (*output, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &output{r: r, w: w, to: to}, nil
}

func (o *output) discard() {
	_ = o.r.Close()
	_ = o.w.Close()
}

func (o *output) copy() {
	_ = o.w.Close() // the child has its own
	o.wg.Go(func() { _, _ = io.Copy(o.to, o.r) })
}

// outputWait is how long what a child said last may take to be read: on a busy machine
// that may begin seconds after the child's end.
const outputWait = 5 * time.Second

// finish waits until all is read. A process that left the group may still hold the
// pipe open; the reader does not wait for it.
func (o *output) finish() {
	timer := time.AfterFunc(outputWait, func() { _ = o.r.Close() })
	o.wg.Wait()
	timer.Stop()
	_ = o.r.Close()
}
