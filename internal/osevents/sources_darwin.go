package osevents

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/net/route"
	"golang.org/x/sys/unix"
)

func systemSources() []source {
	return []source{{name: "route socket", covers: coverNetwork, listen: listenRoutes}}
}

// Two clocks of macOS: one goes on during sleep, the other stands still.
const (
	clockMonotonicRaw = 4
	clockUptimeRaw    = 8
)

func readClock() reading {
	var all, running unix.Timespec
	if unix.ClockGettime(clockMonotonicRaw, &all) != nil || unix.ClockGettime(clockUptimeRaw, &running) != nil {
		return portableClock()
	}
	ran := time.Duration(running.Nano())
	return reading{
		wall: time.Now().Round(0), running: ran,
		asleep: time.Duration(all.Nano()) - ran, asleepKnown: true,
	}
}

// listenRoutes listens to the kernel's messages about interfaces, addresses and
// routes. What they say is not read: they are the hint to look.
func listenRoutes(ctx context.Context, m *Monitor, up func()) error {
	fd, err := unix.Socket(unix.AF_ROUTE, unix.SOCK_RAW, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("open a route socket: %w", err)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return errors.Join(fmt.Errorf("set up the route socket: %w", err), unix.Close(fd))
	}
	f := os.NewFile(uintptr(fd), "route socket")
	defer f.Close() //nolint:errcheck // only read from
	up()
	return readChanges(ctx, m, f, "route socket", func(err error) bool { return errors.Is(err, unix.ENOBUFS) })
}

// readRoutes adds the gateways of the default routes.
func readRoutes(add func(string)) {
	raw, err := route.FetchRIB(unix.AF_UNSPEC, route.RIBTypeRoute, 0)
	if err != nil {
		return
	}
	messages, err := route.ParseRIB(route.RIBTypeRoute, raw)
	if err != nil {
		return
	}
	for _, msg := range messages {
		r, ok := msg.(*route.RouteMessage)
		if !ok || r.Flags&unix.RTF_GATEWAY == 0 || len(r.Addrs) <= unix.RTAX_GATEWAY {
			continue
		}
		fact := fmt.Appendf(nil, "%d", r.Index)
		for _, a := range []route.Addr{r.Addrs[unix.RTAX_DST], r.Addrs[unix.RTAX_GATEWAY]} {
			switch a := a.(type) {
			case *route.Inet4Addr:
				fact = fmt.Appendf(fact, " %x", a.IP)
			case *route.Inet6Addr:
				fact = fmt.Appendf(fact, " %x", a.IP)
			case *route.LinkAddr:
				fact = fmt.Appendf(fact, " %s", a.Name)
			}
		}
		add(string(fact))
	}
}

// askSystem learns nothing: on macOS only frameworks that need C know of the
// lock and of the user's input.
func askSystem(*Presence) {}
