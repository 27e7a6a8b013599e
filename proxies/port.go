package proxies

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"berth/internal/wake"
)

// bindDelays are the pauses between attempts to bind; the last one repeats.
// The first are short because a port is often let go by a process just ending.
var bindDelays = []time.Duration{
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second,
}

// ownerEvery is how often the owner of a taken port is looked up again: on
// some systems it means walking through every process.
const ownerEvery = 30 * time.Second

// Port is a local port that is listened on for as long as its owner wants it:
// bound once, on every host or on none, and retried while it is taken. Its
// methods may be called from many goroutines.
type Port struct {
	hosts    []string
	number   int
	log      *slog.Logger
	onChange func()
	released chan struct{} // closed when the port has been let go for good

	mu        sync.Mutex // guards everything below
	listeners []net.Listener
	absent    []string // hosts that do not exist on this machine
	closed    bool     // no more binding
	err       error
}

// NewPort returns a port that is not bound yet. Zero as number means any free
// one; nil hosts mean 127.0.0.1 and ::1. log and onChange, which is called
// after each change of Status and must not block, may be nil.
func NewPort(hosts []string, number int, log *slog.Logger, onChange func()) *Port {
	if hosts == nil {
		hosts = defaultHosts()
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if onChange == nil {
		onChange = func() {}
	}
	return &Port{hosts: hosts, number: number, log: log, onChange: onChange, released: make(chan struct{})}
}

// PortStatus is how a port is, at one moment.
type PortStatus struct {
	// Bound reports whether all Addresses are listened on.
	Bound bool
	// BindError is why they are not; nil before the first attempt. It is a
	// *PortError when the port is the reason.
	BindError error
	// Addresses are the host:port pairs listened on, in the order of hosts.
	Addresses []string
	// Absent are the hosts that do not exist on this machine: ::1 where there
	// is no IPv6.
	Absent []string
}

// Status returns how the port is now.
func (p *Port) Status() PortStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := PortStatus{Bound: len(p.listeners) > 0, BindError: p.err, Absent: slices.Clone(p.absent)}
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
	p.mu.Lock()
	if p.closed || len(p.listeners) > 0 {
		err := p.err
		p.mu.Unlock()
		return err
	}
	was := p.err
	ls, absent, err := listenAll(p.hosts, p.number)
	if samePortError(was, err) {
		err = was // it may know the owner already
	}
	p.listeners, p.absent, p.err = ls, absent, err
	p.mu.Unlock()
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
		if err == nil {
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

// Close lets the port go for good. It may be called once.
func (p *Port) Close() {
	p.mu.Lock()
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

// Released is closed when Close has let the port go.
func (p *Port) Released() <-chan struct{} { return p.released }
