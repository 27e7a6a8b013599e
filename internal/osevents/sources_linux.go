package osevents

import (
	"bufio"
	"bytes"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

func systemSources() []source {
	return []source{
		{name: "logind", covers: coverSleep, listen: listenLogind},
		{name: "screensaver", listen: listenScreenSaver},
		{name: "network manager", listen: listenMetered},
		{name: "timerfd", covers: coverSleep | coverClock, listen: listenTimer},
		{name: "netlink", covers: coverNetwork, listen: listenNetlink},
	}
}

// readClock reads the clocks; CLOCK_MONOTONIC stands still during sleep.
func readClock() reading {
	var running, boot unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &running) != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil {
		return portableClock()
	}
	ran := time.Duration(running.Nano())
	return reading{
		wall: time.Now().Round(0), running: ran,
		asleep: time.Duration(boot.Nano()) - ran, asleepKnown: true,
	}
}

// readRoutes adds the routes of the main tables, without their counters.
func readRoutes(add func(string)) {
	for path, columns := range map[string][]int{
		"/proc/net/route":      {0, 1, 2, 7}, // interface, destination, gateway, mask
		"/proc/net/ipv6_route": {0, 1, 4, 9}, // destination, its length, next hop, interface
	} {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // no such protocol here
		}
		lines := bufio.NewScanner(bytes.NewReader(raw))
		for lines.Scan() {
			fields := bytes.Fields(lines.Bytes())
			var fact []byte
			for _, c := range columns {
				if c < len(fields) {
					fact = append(append(fact, fields[c]...), ' ')
				}
			}
			add(string(fact))
		}
	}
}

// askSystem has nothing to add: logind and the desktop were listened to.
func askSystem(*Presence) {}
