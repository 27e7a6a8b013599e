package tray

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/color"
	"image/png"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/internal/dbustest"
	"berth/internal/testneeds"
	"berth/internal/testwait"
	"berth/notify"
)

// childVar has the test binary be a tray: systray keeps its state in the
// process, and has races of its own once a panel talks to it.
const childVar = "BERTH_TRAY_CHILD"

// runChild is a tray with a busy agent, which says on stdout what it is told
// to do.
func runChild() int {
	agent := &talkingAgent{fakeAgent{updates: make(chan update, 1)}}
	agent.updates <- update{snapshot: waking()}
	err := Run(context.Background(), Config{
		Logger: slog.New(slog.NewTextHandler(os.Stdout, nil)), Agent: agent, Prompter: &fakePrompter{},
		HasTSH: func() bool { return true },
		Notifier: func(func(id, key string), func(id string)) Notifier {
			return &fakeNotifier{cards: make(map[string]notify.Notification)}
		},
	})
	if err != nil {
		fmt.Println("ended:", err)
		return 1
	}
	return 0
}

type talkingAgent struct{ fakeAgent }

func (a *talkingAgent) StopTunnel(_ context.Context, n string) error {
	_, err := fmt.Println("stop", n)
	return err
}

// child is a tray in a process of its own.
type child struct {
	*testing.T
	cmd   *exec.Cmd
	mu    sync.Mutex
	lines []string
	ended chan error
}

func startChild(t *testing.T, address string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{T: t, cmd: exec.CommandContext(t.Context(), self), ended: make(chan error, 1)}
	c.cmd.Env = append(os.Environ(), childVar+"=1", "DBUS_SESSION_BUS_ADDRESS="+address, "GORACE=exitcode=0 log_path=/dev/null "+testneeds.RaceOptions)
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.cmd.Stderr = c.cmd.Stdout
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			c.mu.Lock()
			c.lines = append(c.lines, lines.Text())
			c.mu.Unlock()
		}
		err := lines.Err()
		c.ended <- errors.Join(err, c.cmd.Wait())
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.ended
	})
	return c
}

// says waits until the tray has said something.
func (c *child) says(what string) {
	c.Helper()
	c.until(what, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return strings.Contains(strings.Join(c.lines, "\n"), what)
	})
}

func (c *child) until(what string, is func() bool) {
	c.Helper()
	if !testwait.Until(is) {
		_ = c.cmd.Process.Signal(syscall.SIGQUIT) // it prints what its goroutines do
		c.ended <- <-c.ended
		c.mu.Lock()
		defer c.mu.Unlock()
		c.Fatalf("waited in vain for: %s; the tray said:\n%s", what, strings.Join(c.lines, "\n"))
	}
}

// TestPanelComesLaterAndIsRestarted: a tray lives without a panel, is shown by
// one that comes, and again by the next; its menu works.
func TestPanelComesLaterAndIsRestarted(t *testing.T) {
	t.Parallel()
	bus := dbustest.Start(t)
	c := startChild(t, bus.Address)
	c.says("no panel shows the icon")
	c.says("the agent answers")
	p := bus.StartPanel(t, 0)
	tray := p.Registered(t)
	c.says("a panel shows the icon")

	var id string
	if err := tray.Property("Id", &id); err != nil || id != "berth" {
		t.Errorf("the item's identity is %q, %v", id, err)
	}
	var lines map[string]int32
	// A menu is drawn line by line: its last line tells that it is whole.
	c.until("the menu", func() bool { lines = tray.Menu(t); return lines["Quit tray (tunnels stay up)"] != 0 })
	for _, want := range []string{"prod__pg · 127.0.0.1:15432 · ready, 3 open", "Copy address", "Stop", "Add tunnel"} {
		if lines[want] == 0 {
			t.Errorf("the menu has no %q: %v", want, lines)
		}
	}
	time.Sleep(settle)
	tray.Click(t, lines["Stop"])
	c.says("stop ") // of whichever tunnel the last line of that name is

	p.End(t)
	c.until("the panel to be missed", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return strings.Count(strings.Join(c.lines, "\n"), "no panel shows the icon") == 2
	})
	if got := bus.StartPanel(t, 0).Registered(t); got.Name != tray.Name {
		t.Errorf("%s registered, and %s before", got.Name, tray.Name)
	}
}

// TestPanelThatMissedTheIcon: an icon that the panel does not have is
// registered once more, and one that it has is not.
func TestPanelThatMissedTheIcon(t *testing.T) {
	t.Parallel()
	for name, missed := range map[string]int32{"has_it": 0, "missed_it": 1} {
		t.Run(name, func(t *testing.T) {
			bus := dbustest.Start(t)
			p := bus.StartPanel(t, missed)
			startChild(t, bus.Address)
			p.Registered(t)
			select {
			case <-p.Asked: // what follows, if anything does, follows at once
			case <-time.After(testwait.Patience):
				t.Fatal("the panel is not asked which icons it has")
			}
			more := 0
			if missed == 0 && p.AskedEarly() { // systray was still to register
				more = 1
			}
			testwait.Never(t, "the icon is registered once too often", func() bool { return len(p.Items) > more })
		})
	}
}

// TestIconOverTheBus: the pixels that a panel gets are those that were drawn.
// It fails when a systray that turns icons into pixels another way needs
// decodeRaw no longer.
func TestIconOverTheBus(t *testing.T) {
	bus := dbustest.Start(t)
	p := bus.StartPanel(t, 0)
	c := startChild(t, bus.Address)
	tray := p.Registered(t)
	want, err := png.Decode(bytes.NewReader(iconFile("action.png")))
	if err != nil {
		t.Fatal(err)
	}
	type pixmap struct {
		W, H int32
		Data []byte
	}
	// Panels that hide icons show this one, and screen readers speak it.
	c.until("the status, and words for it", func() bool {
		for name, want := range map[string]string{"Status": "NeedsAttention", "Title": "5 need you", "IconAccessibleDesc": "5 need you", "Id": "berth"} {
			var got string
			if err := tray.Property(name, &got); err != nil || !strings.Contains(got, want) {
				return false
			}
		}
		return true
	})
	c.until("the icon that says that something wants doing", func() bool {
		var got []pixmap
		if err := tray.Property("IconPixmap", &got); err != nil || len(got) != 1 || int(got[0].W) != want.Bounds().Dx() {
			return false
		}
		for i := range int(got[0].W * got[0].H) {
			c := color.NRGBAModel.Convert(want.At(i%int(got[0].W), i/int(got[0].W))).(color.NRGBA)
			if !bytes.Equal(got[0].Data[4*i:4*i+4], []byte{c.A, c.R, c.G, c.B}) {
				return false
			}
		}
		return true
	})
}

func TestWithoutABus(t *testing.T) {
	c := startChild(t, "unix:path=/nonexistent/bus")
	c.says("ended: show the tray: connect to the D-Bus session")
}

// TestBusEnds: the session is over, and the tray with it.
func TestBusEnds(t *testing.T) {
	bus := dbustest.Start(t)
	c := startChild(t, bus.Address)
	c.says("the agent answers")
	bus.Stop(t)
	c.says("ended: " + errBusGone.Error())
	err := <-c.ended
	c.ended <- err
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 1 {
		t.Errorf("it ended with %v", err)
	}
}
