package osevents

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// insideEnv is set for the copy of the test that has a network of its own.
const insideEnv = "BERTH_TEST_OWN_NETWORK"

func TestNetlink(t *testing.T) {
	if os.Getenv(insideEnv) != "" {
		testNetlinkInside(t)
		return
	}
	testneeds.Time(t, "it waits for networks to settle")
	cmd := exec.Command(os.Args[0], "-test.run=^TestNetlink$", "-test.v")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		testneeds.Here(t, "a network of its own", err)
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "--- PASS: TestNetlink") {
		t.Errorf("in a network of its own: %v\n%s", err, &out)
	}
}

func testNetlinkInside(t *testing.T) {
	if i, err := net.InterfaceByName("lo"); err != nil || i.Flags&net.FlagUp != 0 {
		t.Fatalf("this is not a fresh network: %v, %v", i, err)
	}
	r := newRecorder()
	m := New(Config{Tell: r.tell})
	m.sources = []source{{name: "netlink", covers: coverSleep | coverClock | coverNetwork, listen: listenNetlink}}
	start(t, m)
	testwait.Eventually(t, "the socket", func() bool { return m.missing() == 0 })
	r.none(t, settle+time.Second)

	interfaceUp(t, "lo")
	if e := r.want(t, NetworkChanged); e.Source != "netlink" {
		t.Errorf("source %s, want netlink", e.Source)
	}
	r.none(t, settle+time.Second) // one change is one event

	changeRoutes(t, "add")
	r.want(t, NetworkChanged)
	changeRoutes(t, "del", "add")
	r.none(t, settle+time.Second) // as it was before
}

func interfaceUp(t *testing.T, name string) {
	t.Helper()
	fd := inet(t)
	request, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		t.Fatalf("set %s up: %v", name, err)
	}
}

func inet(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// changeRoutes adds and removes the route to 10.9.8.7 by way of lo. One program does it
// all: a second one might start only when the network has settled.
func changeRoutes(t *testing.T, verbs ...string) {
	t.Helper()
	var lines strings.Builder
	for _, verb := range verbs {
		fmt.Fprintln(&lines, "route", verb, "10.9.8.7/32 dev lo")
	}
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(lines.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s a route: %v: %s", verbs, err, out)
	}
}

func TestTimer(t *testing.T) {
	r := newRecorder()
	machine := newFakeMachine()
	m := machine.monitor(Config{Tell: r.tell}, source{name: "timerfd", covers: coverSleep | coverClock | coverNetwork, listen: listenTimer})
	start(t, m)
	testwait.Eventually(t, "the timer", func() bool { return m.missing() == 0 })
	testwait.Eventually(t, "a look at what came before", func() bool { return machine.clocks.Load() == 2 })
	machine.do(func(f *fakeMachine) { f.slept += 9 * time.Hour })
	r.none(t, 100*time.Millisecond) // the kernel has not spoken

	// Only setting the clock wakes the timer: a nanosecond on, and back again.
	for _, by := range []unix.Timeval{{Usec: 1}, {Sec: -1, Usec: 999_999_999}} {
		if _, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO, Time: by}); err != nil {
			testneeds.Here(t, "to set the clock, which alone wakes the timer", err)
		}
	}
	if e := r.want(t, Woke); e.By != 9*time.Hour || e.Source != "timerfd" {
		t.Errorf("got %+v, want 9h from timerfd", e)
	}
}

func TestClockOfLinux(t *testing.T) {
	before := readClock()
	var now reading
	testwait.Eventually(t, "the clock to run", func() bool { now = readClock(); return now.running-before.running >= 20*time.Millisecond })
	if !now.asleepKnown {
		t.Error("Linux counts the time asleep, and the reading says no")
	}
	if slept, set := compare(before, now); slept != 0 || set != 0 {
		t.Errorf("slept %v, set %v, running %v; want nothing but 20ms running", slept, set, now.running-before.running)
	}
}

func TestReadNetwork(t *testing.T) {
	var got []string
	readNetwork(func(s string) { got = append(got, s) })
	if all := fmt.Sprint(got); !strings.Contains(all, "127.0.0.1/8") {
		t.Errorf("no loopback address in %v", all)
	}
	var n networkState
	n.read = readNetwork
	for look := range 5 { // the first has nothing to compare with
		if n.changed() {
			t.Errorf("the network is another one at look %d", look)
		}
	}
}

// TestNothingThere runs all of Linux's sources where there is no bus.
func TestNothingThere(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "autolaunch:")
	folder := t.TempDir()
	launched := folder + "/launched"
	script := fmt.Sprintf("#!/bin/sh\ntouch %s\n", launched)
	if err := os.WriteFile(folder+"/dbus-launch", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder+":"+os.Getenv("PATH"))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	m := New(Config{})
	if err := m.Run(ctx); err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
	if p := m.Presence(); p != (Presence{}) {
		t.Errorf("Presence() = %+v, want nothing known", p)
	}
	if _, err := os.Stat(launched); err == nil {
		t.Error("a bus was launched")
	}
}
