package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"berth/agent/handover"
	"berth/agent/process"
	"berth/agent/tunnel"
)

// takeOver gets everything from the agent before, which this process could take the
// place of: it has read what is on disk.
func (s *succession) takeOver(line *handover.Line) error {
	if err := line.Send(handover.Message{Kind: handover.Ready, Format: handover.Format, Version: s.opts.Version}); err != nil {
		return err
	}
	for {
		m, files, err := line.Receive()
		if err != nil {
			return fmt.Errorf("take over: %w", err)
		}
		switch m.Kind {
		case handover.Sockets:
			for _, f := range files {
				l, err := f.Listener()
				if err != nil {
					return fmt.Errorf("take over a listening socket: %w", err)
				}
				if tcp, ok := l.(*net.TCPListener); ok {
					s.sockets.Inherit(tcp)
				}
			}
		case handover.Former:
			l, err := files[0].Line()
			if err != nil {
				return fmt.Errorf("take over a line: %w", err)
			}
			s.addFormer(&former{line: l, open: m.Connections})
		case handover.Take:
			return s.inherit(m, files)
		default:
			return fmt.Errorf("take over: unexpected %q", m.Kind)
		}
	}
}

func (s *succession) inherit(m handover.Message, files []handover.Received) error {
	var got inheritance
	if err := json.Unmarshal(m.State, &got); err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	if len(files) != 2 {
		return fmt.Errorf("take over: %d descriptors came with it, want the lock and the control socket", len(files))
	}
	s.lock = process.Inherit(files[0].File(), s.opts.Paths)
	control, err := files[1].Listener()
	if err != nil {
		return fmt.Errorf("take over the control socket: %w", err)
	}
	s.control = handover.NewControl(control)
	s.tunnels.Succession().GoOn(got.Tunnels)
	s.pub.goOn(got.Notices)
	return s.memory.Reload()
}

func (s *succession) formers() []former {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]former, len(s.before))
	for i, f := range s.before {
		list[i] = *f
	}
	return list
}

func (s *succession) addFormer(f *former) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.adopted = make(map[string]bool)
	s.before = append(s.before, f)
}

// draining returns how many connections the agents before this one still serve.
func (s *succession) draining() (connections int) {
	for _, f := range s.formers() {
		connections += f.open
	}
	return connections
}

// endFormer has agents before this one end a tunnel's connections; empty: all.
func (s *succession) endFormer(name string) {
	if s.left.Load() {
		return
	}
	for _, f := range s.formers() {
		_ = f.line.Send(handover.Message{Kind: handover.Close, Tunnel: name}) // one that is gone has none
	}
}

// endHearing waits until what the agents before this one say matters no longer.
func (s *succession) endHearing() {
	<-s.deaf
	for _, f := range s.formers() {
		_ = f.line.Close()
	}
	s.hearers.Wait()
}

// hear begins to hear the agents before this one, or goes on.
func (s *succession) hear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.before {
		f.line.Resume()
		s.hearers.Go(func() { s.hearFormer(f) })
	}
}

// hush hears the agents before this one no longer: no message is left half read, and
// the next is heard by whoever gets the line.
func (s *succession) hush() {
	for _, f := range s.formers() {
		f.line.Pause()
	}
	s.hearers.Wait()
}

// hearFormer takes what an agent before this one says until it is gone, or no longer
// heard.
func (s *succession) hearFormer(f *former) {
	for {
		m, files, err := f.line.Receive()
		if errors.Is(err, handover.ErrPaused) {
			return
		}
		if err != nil {
			s.mu.Lock()
			f.open = 0
			s.before = slices.DeleteFunc(s.before, func(have *former) bool { return have == f })
			s.mu.Unlock()
			_ = f.line.Close() // one that is not gone would wait for ever for this process to read
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.log.Warn("an agent before this one is no longer heard", "err", err)
			}
			s.touch()
			return
		}
		switch m.Kind {
		case handover.Client:
			if addr := s.adopt(m, files); addr != "" {
				f.adopted[addr] = true
			}
		case handover.Moved:
			s.tunnels.Succession().Adopted(f.adopted)
			s.becomeMain()
		case handover.Counted:
			var counts map[string]tunnel.Count
			if err := json.Unmarshal(m.State, &counts); err != nil {
				s.log.Warn("what an agent before this one has counted is not known", "err", err)
				continue
			}
			s.tunnels.Succession().Add(counts)
			s.touch()
		case handover.Stop:
			s.stop()
		default: // about its connections alone, below
		}
		if m.Kind == handover.Open || m.Kind == handover.Moved {
			s.mu.Lock()
			f.open = m.Connections
			s.mu.Unlock()
			s.touch()
		}
	}
}

// adopt serves a client that was handed over, and returns its address.
func (s *succession) adopt(m handover.Message, files []handover.Received) string {
	for _, f := range files {
		c, err := f.Conn()
		if err != nil {
			s.log.Warn("a client was lost on its way from the agent before", "tunnel", m.Tunnel, "err", err)
			continue
		}
		addr := c.RemoteAddr() // nil: it has hung up meanwhile
		if tcp, ok := c.(*net.TCPConn); ok && addr != nil && s.tunnels.Succession().Adopt(m.Tunnel, tcp, m.Said) {
			return addr.String()
		}
		_ = c.Close() // its tunnel may have been removed
	}
	return ""
}

// becomeMain has the service manager know this process, once it takes its word.
func (s *succession) becomeMain() {
	s.mu.Lock()
	unwanted := s.unwanted
	s.main, s.unwanted = true, nil
	s.mu.Unlock()
	for _, name := range unwanted {
		s.forget(name)
	}
	for _, l := range s.sockets.InUse() {
		s.keepSocket(l)
	}
	if s.opts.Ready != nil {
		s.opts.Ready()
	}
}

// endFormers has the agents before this one end, since this one does, and waits
// until they have, for the grace that connections have.
func (s *succession) endFormers() {
	s.endFormer("")
	limit := time.NewTimer(s.opts.Grace + time.Second)
	defer limit.Stop()
	for s.draining() > 0 {
		select {
		case <-limit.C:
			return
		case <-s.changed:
		}
	}
}

// goodbye says to the agents before this one that it ends as it was asked to.
func (s *succession) goodbye() {
	for _, f := range s.formers() {
		_ = f.line.Send(handover.Message{Kind: handover.Exit}) // one that is gone need not know
		_ = f.line.Close()
	}
}

// keepSocket has the service manager keep a listening socket for a process to come.
func (s *succession) keepSocket(l *net.TCPListener) {
	if err := s.opts.Manager.Store(socketName(l), l); err != nil {
		s.log.Debug("the service manager does not keep a socket", "err", err)
	}
}

// forgetSocket has the service manager keep a listening socket no longer. Until this
// process is the main one the manager does not take its word, and the agent before,
// which goes on if this one fails, may need the socket.
func (s *succession) forgetSocket(l *net.TCPListener) {
	name := socketName(l)
	s.mu.Lock()
	if !s.main {
		s.unwanted = append(s.unwanted, name)
		name = ""
	}
	s.mu.Unlock()
	if name != "" {
		s.forget(name)
	}
}

func (s *succession) forget(name string) {
	if err := s.opts.Manager.Forget(name); err != nil {
		s.log.Debug("the service manager keeps a socket", "err", err)
	}
}

// socketName is a listening socket's name at the service manager, which takes no
// colons.
func socketName(l *net.TCPListener) string {
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok || addr.IP.To4() == nil {
		return fmt.Sprintf("tcp6-%d", addr.Port)
	}
	return fmt.Sprintf("tcp4-%d", addr.Port)
}
