package proxies

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"berth/internal/testneeds"
	"berth/proxies/internal/nettest"
)

// capNetBindService lets root bind ports below 1024.
const capNetBindService = 10

func TestPrivilegedPort(t *testing.T) {
	start, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err == nil && strings.TrimSpace(string(start)) != "1024" {
		testneeds.Skip(t, "privileged ports", "here the first unprivileged one is "+strings.TrimSpace(string(start)))
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := dropBindCapability(); err != nil {
			result <- err
			return
		}
		tun, _ := newTunnel(Config{Source: source(nettest.Serve(t, nettest.Echo)), Port: 1023})
		result <- tun.Bind()
	}()
	err = <-result
	var pe *PortError
	if !errors.Is(err, ErrPortDenied) || !errors.As(err, &pe) || pe.Port != 1023 {
		t.Errorf("Bind() = %v, want ErrPortDenied", err)
	}
}

// dropBindCapability makes the current thread an ordinary user's in this respect.
func dropBindCapability() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&hdr, &caps[0]); err != nil {
		return err
	}
	caps[0].Effective &^= 1 << capNetBindService
	return unix.Capset(&hdr, &caps[0])
}
