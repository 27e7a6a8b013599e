//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"berth/internal/wake"
)

// busConfig is a bus on which nothing is ever activated.
const busConfig = `<busconfig><type>session</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`

// bus is a message bus of the run's own.
type bus struct {
	address string
	folder  string
	cmd     *exec.Cmd
}

func startBus(ctx context.Context, folder string) (*bus, error) {
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		return nil, err
	}
	b := &bus{address: "unix:path=" + filepath.Join(folder, "bus"), folder: folder}
	conf := fmt.Sprintf(busConfig, filepath.Join(folder, "bus"))
	if err := os.WriteFile(filepath.Join(folder, "bus.conf"), []byte(conf), 0o600); err != nil {
		return nil, err
	}
	return b, b.start(ctx)
}

// start starts the bus, again after stop.
func (b *bus) start(context.Context) error {
	if err := os.Remove(strings.TrimPrefix(b.address, "unix:path=")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	b.cmd = exec.CommandContext(context.Background(), "dbus-daemon", "--nofork", "--nopidfile", "--print-address=1",
		"--config-file="+filepath.Join(b.folder, "bus.conf"))
	out, err := b.cmd.StdoutPipe()
	if err == nil {
		err = b.cmd.Start()
	}
	if err != nil {
		return err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return fmt.Errorf("dbus-daemon printed no address: %w", err)
	}
	return nil
}

// stop kills the bus.
func (b *bus) stop() {
	if b.cmd != nil && b.cmd.Process != nil {
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait() // it was killed
		b.cmd = nil
	}
}

// tray is a "berth tray" that is started again when it has ended.
type tray struct {
	w *world

	mu     sync.Mutex
	cmd    *exec.Cmd
	starts int
}

// run runs the tray until ctx ends.
func (tr *tray) run(ctx context.Context) error {
	for ctx.Err() == nil {
		cmd := tr.w.command(ctx, tr.w.berth, "tray", "--quiet")
		cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
		cmd.WaitDelay = patience
		if err := cmd.Start(); err != nil {
			return err
		}
		tr.mu.Lock()
		tr.cmd = cmd
		tr.starts++
		tr.mu.Unlock()
		_ = cmd.Wait() // a tray whose bus is gone ends, and comes back
		wake.Sleep(ctx, time.Second)
	}
	return nil
}

// pid is that of the tray, or of the last one.
func (tr *tray) pid() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.cmd == nil {
		return 0
	}
	return tr.cmd.Process.Pid
}
