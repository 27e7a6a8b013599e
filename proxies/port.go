package proxies

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"berth/internal/wake"
)

// bindDelays are the pauses between attempts to bind; the last one repeats.
// The first are short because the holder of a port is often a process that is
// just ending.
var bindDelays = []time.Duration{
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second,
}

// ownerEvery is how often the holder of a taken port is looked up again: on
// some systems that means walking through every process.
const ownerEvery = 30 * time.Second

// KeepAlive is how both ends of a connection are probed: a dead peer is found
// within a minute and a half.
var KeepAlive = net.KeepAliveConfig{
	Enable:   true,
	Idle:     30 * time.Second,
	Interval: 15 * time.Second,
	Count:    4,
}

// Port is a local port that is listened on for as long as its owner wants it:
// bound once, on every host or on none, and retried while it is taken. Its
// methods may be called from many goroutines.
type Port struct {
	hosts    []string
	number   int
	sockets  *Sockets
	log      *slog.Logger
	onChange func()
	released chan struct{} // closed when the port is released for good
	binding  wake.Turn     // of the one attempt to bind; Status and Close do not wait for it

	mu        sync.Mutex // guards everything below
	listeners []net.Listener
	closed    bool // the port is not bound again
	err       error
}

// NewPort returns a port that is not bound yet. Zero as number means any free
// one; nil hosts mean 127.0.0.1 and ::1. sockets, log and onChange, which is called
// after each change of Status and must not block, may be nil.
func NewPort(hosts []string, number int, sockets *Sockets, log *slog.Logger, onChange func()) *Port {
	if hosts == nil {
		hosts = defaultHosts()
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if onChange == nil {
		onChange = func() {}
	}
	return &Port{hosts: hosts, number: number, sockets: sockets, log: log, onChange: onChange, released: make(chan struct{})}
}

// PortStatus is how a port is, at one moment.
type PortStatus struct {
	// BindError is why the port is not bound; nil before the first attempt. It
	// is a *PortError when the port is the reason.
	BindError error
	// Addresses are the host:port pairs listened on, in the order of hosts;
	// none while the port is not bound.
	Addresses []string
}

// Status returns how the port is now.
func (p *Port) Status() PortStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := PortStatus{BindError: p.err}
	for _, l := range p.listeners {
		s.Addresses = append(s.Addresses, l.Addr().String())
	}
	return s
}

// Bind tries once to listen on every host at the same port, and does nothing
// when the port is bound already. Either all hosts are bound, but for those
// that do not exist on this machine, or none. Clients that connect before
// their connections are accepted wait in the OS's queue.
func (p *Port) Bind() error {
	p.binding.Take(context.Background())
	defer p.binding.Give()
	p.mu.Lock()
	was, done := p.err, p.closed || len(p.listeners) > 0
	p.mu.Unlock()
	if done {
		return was
	}
	ls, err := listenAll(p.sockets, p.hosts, p.number)
	if samePortError(was, err) {
		err = was // it may know the owner already
	}
	p.mu.Lock()
	closed := p.closed // meanwhile
	if !closed {
		p.listeners, p.err = ls, err
	}
	p.mu.Unlock()
	if closed {
		closeAll(ls)
		return ErrStopped
	}
	if err == nil {
		p.log.Info("port bound", "addresses", p.Status().Addresses)
	}
	if err == nil || err != was { //nolint:errorlint // identity is meant: the very same value
		p.onChange()
	}
	return err
}

// BindUntil binds the port, trying about once a second for as long as it is
// taken, and returns its listeners: none when ctx ended first. They are closed
// by Close.
func (p *Port) BindUntil(ctx context.Context) []net.Listener {
	var asked time.Time
	for attempt := 0; ctx.Err() == nil; attempt++ {
		err := p.Bind()
		if err == nil || errors.Is(err, ErrStopped) {
			break
		}
		if attempt == 0 {
			p.log.Warn("cannot bind, will retry", "err", err)
		}
		if attempt >= 2 && time.Since(asked) >= ownerEvery {
			asked = time.Now()
			p.nameOwner(ctx, err)
		}
		wake.Sleep(ctx, bindDelays[min(attempt, len(bindDelays)-1)])
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.listeners
}

// Close releases the port for good.
func (p *Port) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	listeners := p.listeners
	p.listeners, p.closed, p.err = nil, true, ErrStopped
	p.mu.Unlock()
	for _, l := range listeners {
		if err := l.Close(); err != nil {
			p.log.Warn("close listener", "err", err)
		}
	}
	close(p.released)
	p.onChange()
}

// Released is closed when Close has released the port.
func (p *Port) Released() <-chan struct{} { return p.released }

// PortBusy reports whether a tunnel could not be bound to the port right now,
// on the usual hosts. It binds the port for a moment to find out.
func PortBusy(port int) bool {
	listeners, err := listenAll(nil, defaultHosts(), port)
	for _, l := range listeners {
		if cerr := l.Close(); cerr != nil {
			return true
		}
	}
	return err != nil
}

// defaultHosts are both loopback addresses: on many systems a client that
// connects to "localhost" tries ::1 first.
func defaultHosts() []string { return []string{"127.0.0.1", "::1"} }

// listenAll listens on every host at one port, or on none. Hosts that do not
// exist on this machine are left out, like ::1 where there is no IPv6.
func listenAll(sockets *Sockets, hosts []string, port int) (ls []net.Listener, err error) {
	attempts := 1
	if port == 0 {
		attempts = 20 // the port free on one host may be taken on the next
	}
	for range attempts {
		ls, err = listenOnce(sockets, hosts, port)
		if !errors.Is(err, ErrPortTaken) {
			break
		}
	}
	return ls, err
}

func listenOnce(sockets *Sockets, hosts []string, port int) (ls []net.Listener, err error) {
	var missing error
	for _, host := range hosts {
		network := "tcp4"
		if ip, err := netip.ParseAddr(host); err == nil && !ip.Unmap().Is4() {
			network = "tcp6"
		}
		addr := net.JoinHostPort(host, strconv.Itoa(port))
		l, err := sockets.listen(network, addr)
		switch {
		case err == nil:
			ls = append(ls, l)
			port = l.Addr().(*net.TCPAddr).Port // a port that the OS chose counts for the next host too
		case network == "tcp6" && isNoAddress(err):
			missing = err
		default:
			closeAll(ls)
			return nil, bindError(host, port, err)
		}
	}
	if len(ls) == 0 {
		return nil, fmt.Errorf("bind port %d: %w", port, missing)
	}
	return ls, nil
}

// closeAll closes listeners that have accepted nothing.
func closeAll(ls []net.Listener) {
	for _, l := range ls {
		_ = l.Close() // there is nothing to lose
	}
}

// bindError makes the OS's error a PortError where it is one.
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
