package proxies

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"berth/internal/wake"
)

// KeepAlive is how both ends of a connection are probed: a dead peer is found
// within a minute and a half.
var KeepAlive = net.KeepAliveConfig{
	Enable:   true,
	Idle:     30 * time.Second,
	Interval: 15 * time.Second,
	Count:    4,
}

// PortBusy reports whether a tunnel could not be bound to the port right now,
// on the usual hosts. It binds the port for a moment to find out.
func PortBusy(port int) bool {
	listeners, _, err := listenAll(defaultHosts(), port)
	for _, l := range listeners {
		if cerr := l.Close(); cerr != nil {
			return true
		}
	}
	return err != nil
}

// defaultHosts are both loopback addresses: clients that are told "localhost"
// try ::1 first on many systems.
func defaultHosts() []string { return []string{"127.0.0.1", "::1"} }

// accept starts a goroutine for each client, and never gives up: when the
// process is out of descriptors it waits for connections to end.
func (t *Tunnel) accept(ctx context.Context, l net.Listener) {
	var pause time.Duration
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			t.start(ctx, c)
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		default:
			t.noteError(err)
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			wake.Sleep(ctx, pause) // Accept returns once ctx has ended
		}
	}
}

// listenAll listens on every host at one port, or on none.
func listenAll(hosts []string, port int) (ls []net.Listener, absent []string, err error) {
	attempts := 1
	if port == 0 {
		attempts = 20 // the port free on one host may be taken on the next
	}
	for range attempts {
		ls, absent, err = listenOnce(hosts, port)
		if !errors.Is(err, ErrPortTaken) {
			break
		}
	}
	return ls, absent, err
}

func listenOnce(hosts []string, port int) (ls []net.Listener, absent []string, err error) {
	lc := net.ListenConfig{KeepAliveConfig: KeepAlive}
	var missing error
	for _, host := range hosts {
		network := "tcp4"
		if ip, err := netip.ParseAddr(host); err == nil && !ip.Unmap().Is4() {
			network = "tcp6"
		}
		addr := net.JoinHostPort(host, strconv.Itoa(port))
		l, err := lc.Listen(context.Background(), network, addr)
		switch {
		case err == nil:
			ls = append(ls, l)
			port = l.Addr().(*net.TCPAddr).Port
		case network == "tcp6" && isNoAddress(err):
			absent, missing = append(absent, host), err
		default:
			for _, l := range ls {
				_ = l.Close() // nothing was accepted: there is nothing to lose
			}
			return nil, nil, bindError(host, port, err)
		}
	}
	if len(ls) == 0 {
		return nil, nil, fmt.Errorf("bind port %d: %w", port, missing)
	}
	return ls, absent, nil
}

// bindError types what the OS said.
func bindError(host string, port int, err error) error {
	switch {
	case isInUse(err):
		return &PortError{Port: port, Host: host, Reason: ErrPortTaken, Err: err}
	case isDenied(err):
		return &PortError{Port: port, Host: host, Reason: ErrPortDenied, Err: err}
	default:
		return fmt.Errorf("bind %s port %d: %w", host, port, err)
	}
}
