package proxies

import (
	"context"
	"net"
	"sync"
)

// Sockets are the listening sockets of a process: those in use, and those that it
// got from another process and no port has asked for yet. Whoever asks for the
// address of such a one gets the socket itself, so that the address is never free
// and no client is refused. A nil *Sockets has none and keeps none. Its methods may
// be called from many goroutines.
type Sockets struct {
	onBound, onReleased func(*net.TCPListener)

	mu    sync.Mutex                  // guards everything below
	spare map[string]*net.TCPListener // by address
	inUse map[string]*net.TCPListener
	kept  bool // see Keep
}

// NewSockets returns an empty set. onBound is called with each socket that is bound
// anew, onReleased before one is closed; they may be nil.
func NewSockets(onBound, onReleased func(*net.TCPListener)) *Sockets {
	nothing := func(*net.TCPListener) {}
	if onBound == nil {
		onBound = nothing
	}
	if onReleased == nil {
		onReleased = nothing
	}
	return &Sockets{
		onBound: onBound, onReleased: onReleased,
		spare: make(map[string]*net.TCPListener), inUse: make(map[string]*net.TCPListener),
	}
}

// Inherit takes in a listening socket of another process.
func (s *Sockets) Inherit(l *net.TCPListener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare[l.Addr().String()] = l
}

// InUse returns the sockets that are listened on.
func (s *Sockets) InUse() []*net.TCPListener {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*net.TCPListener, 0, len(s.inUse))
	for _, l := range s.inUse {
		list = append(list, l)
	}
	return list
}

// CloseSpare closes the inherited sockets that no port has asked for.
func (s *Sockets) CloseSpare() {
	s.mu.Lock()
	spare := s.spare
	s.spare = make(map[string]*net.TCPListener)
	s.mu.Unlock()
	for _, l := range spare {
		s.onReleased(l)
		_ = l.Close() // it is of no use to any tunnel
	}
}

// Keep has onReleased no longer be called: the process ends, or another one has the
// sockets now.
func (s *Sockets) Keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = true
}

// listen returns the inherited socket at the address, or a new one.
func (s *Sockets) listen(network, addr string) (net.Listener, error) {
	if s == nil {
		lc := net.ListenConfig{KeepAliveConfig: KeepAlive}
		return lc.Listen(context.Background(), network, addr)
	}
	s.mu.Lock()
	l := s.spare[addr]
	if l != nil {
		delete(s.spare, addr)
		s.inUse[addr] = l
	}
	s.mu.Unlock()
	if l != nil {
		return &socket{l, s}, nil
	}
	bound, err := (*Sockets)(nil).listen(network, addr)
	if err != nil {
		return nil, err
	}
	l = bound.(*net.TCPListener) // a TCP network has no other ones
	s.mu.Lock()
	s.inUse[l.Addr().String()] = l
	s.mu.Unlock()
	s.onBound(l)
	return &socket{l, s}, nil
}

// socket is a listener that its Sockets know.
type socket struct {
	*net.TCPListener
	of *Sockets
}

// Accept probes inherited sockets' connections like the others'.
func (l *socket) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	_ = c.SetKeepAliveConfig(KeepAlive) // fails on a dead connection only
	return c, nil
}

// Close releases the address.
func (l *socket) Close() error {
	l.of.mu.Lock()
	addr := l.Addr().String()
	mine := l.of.inUse[addr] == l.TCPListener
	if mine {
		delete(l.of.inUse, addr)
	}
	tell := mine && !l.of.kept
	l.of.mu.Unlock()
	if tell {
		l.of.onReleased(l.TCPListener)
	}
	return l.TCPListener.Close()
}
