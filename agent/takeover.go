package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"berth/agent/handover"
	"berth/agent/ipc"
	"berth/agent/tunnel"
	"berth/internal/wake"
	"berth/proxies"
)

const (
	// readyLimit is how long a successor may take to say that it could serve, and
	// servingLimit to say that it does.
	readyLimit   = 30 * time.Second
	servingLimit = 15 * time.Second
	// answerTime is how long calls may take that came to the control socket just
	// before the successor had it alone.
	answerTime = 200 * time.Millisecond
)

// Succession says how an agent passes its work on, and takes over.
type Succession struct {
	// Program and Args start a successor. An empty Program: there will be none.
	Program string
	Args    []string
	// Line is this process's line to the agent that it takes the place of; nil: it
	// starts as the only one.
	Line *handover.Line
	// Asked receives when the agent is to be replaced by a new process of Program.
	Asked <-chan os.Signal
	// Stays has an agent that was replaced wait for its successors, and end as they
	// do: whoever started it watches this process alone.
	Stays bool
}

// errSuccessorDied is how an agent ends that has stayed for successors of which the
// last did not end as it was asked to.
var errSuccessorDied = errors.New("the agent that had taken over ended unexpectedly")

// inheritance is what a successor gets besides sockets.
type inheritance struct {
	Tunnels map[string]tunnel.Past `json:"tunnels"`
}

// succession is what an agent knows of those before and after it.
type succession struct {
	requests chan succeed
	hearing  sync.WaitGroup  // of what the agents before this one say
	deaf     <-chan struct{} // closed when that no longer matters, by deafen
	deafen   func()

	mu      sync.Mutex // guards everything below
	formers []*former
}

// former is an agent before this one.
type former struct {
	line *handover.Line
	open int // its connections
}

// succeed is a request for a successor.
type succeed struct {
	program string // empty: the agent's own
	env     []string
	answer  chan<- succeeded
}

type succeeded struct {
	successor ipc.Successor
	err       error
}

// HandOver starts a successor and returns when that serves. Env is put over this
// process's environment. An error means that nothing has changed.
func (a *Agent) HandOver(ctx context.Context, program string, env []string) (ipc.Successor, error) {
	answer := make(chan succeeded, 1)
	select {
	case a.next.requests <- succeed{program, env, answer}:
	case <-ctx.Done():
		return ipc.Successor{}, ctx.Err()
	case <-a.rooms.Done():
		return ipc.Successor{}, errors.New("the agent is stopping")
	}
	select {
	case done := <-answer:
		return done.successor, done.err
	case <-ctx.Done():
		return ipc.Successor{}, ctx.Err()
	}
}

// followSuccession replaces the agent when that is asked for. It returns when ctx
// ends, or a successor serves and the last connection of this agent has ended.
func (a *Agent) followSuccession(ctx context.Context) error {
	for {
		var s succeed
		select {
		case <-ctx.Done():
			return nil
		case s = <-a.next.requests:
		case <-a.opts.Succession.Asked:
			answer := make(chan succeeded, 1)
			s = succeed{answer: answer}
		}
		next, who, err := a.handOver(s)
		if err != nil {
			a.log.Error("no successor took over, this agent goes on", "err", err)
			code := ipc.CodeFailed
			if errors.Is(err, handover.ErrUnsupported) {
				code = ipc.CodeUnsupported
			}
			err = &ipc.Error{
				Code: code, Message: fmt.Sprintf("the new agent did not take over, the running one goes on: %v", err),
				Hint: `see "berth agent logs"`,
			}
		}
		if err == nil {
			a.left.Store(true)
			a.control.leave() // whoever hears the answer and asks more asks the successor
		}
		s.answer <- succeeded{who, err} // it has room
		if err == nil {
			return a.leave(ctx, next)
		}
	}
}

// handOver starts a successor and gives it everything. When it returns without an
// error, that serves.
func (a *Agent) handOver(s succeed) (next *handover.Successor, who ipc.Successor, err error) {
	program, env := s.program, append(os.Environ(), s.env...)
	if program == "" {
		program = a.opts.Succession.Program
	}
	if program == "" {
		return nil, who, handover.ErrUnsupported
	}
	if socket := a.opts.Manager.Socket(); socket != "" {
		env = append(env, "NOTIFY_SOCKET="+socket)
	}
	a.log.Info("handing over", "program", program)
	next, err = handover.Start(program, a.opts.Succession.Args, env)
	if err != nil {
		return nil, who, err
	}
	ready, err := next.Await(handover.Ready, readyLimit)
	if err == nil && ready.Format != handover.Format {
		err = fmt.Errorf("%s (version %s) hands over in another way", program, ready.Version)
	}
	thaw := func(bool) {}
	if err == nil {
		thaw = a.memory.Freeze()
		if err = a.give(next.Line); err == nil {
			_, err = next.Await(handover.Serving, servingLimit)
		}
	}
	if err != nil {
		next.Kill()
		thaw(false)
		return nil, who, err
	}
	thaw(true)
	return next, ipc.Successor{PID: next.PID(), Version: ready.Version}, nil
}

// give passes what a successor needs.
func (a *Agent) give(line *handover.Line) error {
	var listeners []handover.Descriptor
	for _, l := range a.sockets.InUse() {
		listeners = append(listeners, l)
	}
	for batch := range slices.Chunk(listeners, 64) {
		if err := line.Send(handover.Message{Kind: handover.Sockets}, batch...); err != nil {
			return err
		}
	}
	for _, f := range a.formers() {
		if err := line.Send(handover.Message{Kind: handover.Former, Connections: f.open}, f.line); err != nil {
			return err
		}
	}
	state, err := json.Marshal(inheritance{Tunnels: a.tunnels.Succession().Pasts()})
	if err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	lockFile, ok := a.lock.file.(handover.Descriptor)
	control, ok2 := a.control.Listener.(handover.Descriptor)
	if !ok || !ok2 {
		return handover.ErrUnsupported
	}
	return line.Send(handover.Message{Kind: handover.Take, State: state}, lockFile, control)
}

// leave serves what this agent has left, with a successor that serves everything
// else, and returns when nothing is left.
func (a *Agent) leave(ctx context.Context, next *handover.Successor) error {
	a.sockets.Keep()
	if err := a.opts.Manager.Send(fmt.Sprintf("MAINPID=%d", next.PID())); err != nil {
		a.log.Warn("the service manager does not know the new process", "err", err)
	}
	for _, f := range a.formers() {
		_ = f.line.Close() // the successor has it
	}
	time.AfterFunc(answerTime, a.retire)
	a.log.Info("handed over", "pid", next.PID())

	grace := a.current().HandoverGraceDuration()
	exit := make(chan error, 1)
	go func() { exit <- a.hearSuccessor(next.Line) }()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		tunnels := a.tunnels.Succession()
		tunnels.Leave(grace, a.moveTo(next.Line), func() {
			_ = next.Send(handover.Message{Kind: handover.Moved, Connections: tunnels.Open()})
		})
	}()
	go a.reportOpen(ctx, next.Line, drained)

	stop := ctx.Done()
	var died error
	for waiting := true; waiting; {
		select {
		case <-drained:
			waiting = false
		case err := <-exit:
			exit = nil
			died = err
			if a.opts.Succession.Stays { // whoever watches this process must see the end
				time.AfterFunc(a.opts.Grace, func() { a.tunnels.Succession().Close("") })
			}
		case <-stop:
			stop = nil
			_ = next.Send(handover.Message{Kind: handover.Stop})
			time.AfterFunc(a.opts.Grace, func() { a.tunnels.Succession().Close("") })
		}
	}
	_ = next.Send(handover.Message{Kind: handover.Open}) // none
	a.log.Info("the last connection has ended since the agent handed over")
	if a.opts.Succession.Stays && exit != nil {
		select {
		case died = <-exit:
		case <-stop:
			_ = next.Send(handover.Message{Kind: handover.Stop})
			died = <-exit
		}
	}
	_ = next.Close()
	if !a.opts.Succession.Stays {
		return nil
	}
	return died
}

// hearSuccessor does what a successor asks for, and returns how it ended.
func (a *Agent) hearSuccessor(line *handover.Line) error {
	for {
		m, _, err := line.Receive()
		switch {
		case err != nil:
			return errSuccessorDied
		case m.Kind == handover.Exit:
			return nil
		case m.Kind == handover.Close && m.Tunnel == "":
			time.AfterFunc(a.opts.Grace, func() { a.tunnels.Succession().Close("") })
		case m.Kind == handover.Close:
			a.tunnels.Succession().Close(m.Tunnel)
		}
	}
}

// moveTo hands clients to a successor.
func (a *Agent) moveTo(line *handover.Line) func(string) proxies.Move {
	return func(name string) proxies.Move {
		return func(client *net.TCPConn, said []byte) error {
			return line.Send(handover.Message{Kind: handover.Client, Tunnel: name, Said: said}, client)
		}
	}
}

// reportOpen has the successor know how many connections this agent still serves,
// until there are none.
func (a *Agent) reportOpen(ctx context.Context, line *handover.Line, drained <-chan struct{}) {
	said := -1
	for {
		if open := a.tunnels.Succession().Open(); open != said {
			said = open
			if line.Send(handover.Message{Kind: handover.Open, Connections: open}) != nil {
				return
			}
		}
		select {
		case <-drained:
			return
		case <-a.pub.changed:
		case <-time.After(publishCounters): // who publishes may have taken the signal
		}
		wake.Sleep(ctx, publishPauseMax)
	}
}

// takeOver gets everything from the agent before, which this process could take the
// place of: it has read what is on disk.
func (a *Agent) takeOver(line *handover.Line) error {
	if err := line.Send(handover.Message{Kind: handover.Ready, Format: handover.Format, Version: a.opts.Version}); err != nil {
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
					a.sockets.Inherit(tcp)
				}
			}
		case handover.Former:
			l, err := files[0].Line()
			if err != nil {
				return fmt.Errorf("take over a line: %w", err)
			}
			a.addFormer(&former{line: l, open: m.Connections})
		case handover.Take:
			return a.inherit(m, files)
		default:
			return fmt.Errorf("take over: unexpected %q", m.Kind)
		}
	}
}

func (a *Agent) inherit(m handover.Message, files []handover.Received) error {
	var got inheritance
	if err := json.Unmarshal(m.State, &got); err != nil || len(files) != 2 {
		return fmt.Errorf("take over: %d descriptors, %w", len(files), err)
	}
	a.lock = &lock{file: files[0].File(), note: a.opts.Paths.LockPID()}
	control, err := files[1].Listener()
	if err != nil {
		return fmt.Errorf("take over the control socket: %w", err)
	}
	a.control = newControl(control)
	a.tunnels.Succession().GoOn(got.Tunnels)
	return a.memory.Reload()
}

func (a *Agent) formers() []former {
	a.next.mu.Lock()
	defer a.next.mu.Unlock()
	list := make([]former, len(a.next.formers))
	for i, f := range a.next.formers {
		list[i] = *f
	}
	return list
}

func (a *Agent) addFormer(f *former) {
	a.next.mu.Lock()
	defer a.next.mu.Unlock()
	a.next.formers = append(a.next.formers, f)
}

// draining returns how many connections the agents before this one still serve.
func (a *Agent) draining() (connections int) {
	for _, f := range a.formers() {
		connections += f.open
	}
	return connections
}

// endFormer has agents before this one end a tunnel's connections; empty: all.
func (a *Agent) endFormer(name string) {
	if a.left.Load() {
		return
	}
	for _, f := range a.formers() {
		_ = f.line.Send(handover.Message{Kind: handover.Close, Tunnel: name}) // one that is gone has none
	}
}

// followFormers hears what the agents before this one say.
func (a *Agent) followFormers() {
	var hearing sync.WaitGroup
	a.next.mu.Lock()
	for _, f := range a.next.formers {
		hearing.Go(func() { a.hearFormer(f) })
	}
	a.next.mu.Unlock()
	<-a.next.deaf
	for _, f := range a.formers() {
		_ = f.line.Close()
	}
	hearing.Wait()
}

// hearFormer takes what an agent before this one says until it is gone.
func (a *Agent) hearFormer(f *former) {
	adopted := make(map[string]bool)
	for {
		m, files, err := f.line.Receive()
		if err != nil {
			a.next.mu.Lock()
			f.open = 0
			a.next.formers = slices.DeleteFunc(a.next.formers, func(have *former) bool { return have == f })
			a.next.mu.Unlock()
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				a.log.Warn("an agent before this one is no longer heard", "err", err)
			}
			a.touch()
			return
		}
		switch m.Kind {
		case handover.Client:
			if addr := a.adopt(m, files); addr != "" {
				adopted[addr] = true
			}
		case handover.Moved:
			a.tunnels.Succession().Adopted(adopted)
			a.becomeMain()
		case handover.Stop:
			a.stop()
		default: // about its connections alone, below
		}
		if m.Kind == handover.Open || m.Kind == handover.Moved {
			a.next.mu.Lock()
			f.open = m.Connections
			a.next.mu.Unlock()
			a.touch()
		}
	}
}

// adopt serves a client that was handed over, and returns its address.
func (a *Agent) adopt(m handover.Message, files []handover.Received) string {
	for _, f := range files {
		c, err := f.Conn()
		if err != nil {
			a.log.Warn("a client was lost on its way from the agent before", "tunnel", m.Tunnel, "err", err)
			continue
		}
		addr := c.RemoteAddr() // nil: it has hung up meanwhile
		if tcp, ok := c.(*net.TCPConn); ok && addr != nil && a.tunnels.Succession().Adopt(m.Tunnel, tcp, m.Said) {
			return addr.String()
		}
		_ = c.Close() // its tunnel may have been removed
	}
	return ""
}

// becomeMain has the service manager know this process, once it takes its word.
func (a *Agent) becomeMain() {
	for _, l := range a.sockets.InUse() {
		a.keepSocket(l)
	}
	if a.opts.Ready != nil {
		a.opts.Ready()
	}
}

// endFormers has the agents before this one end, since this one does, and waits
// until they have, for the grace that connections have.
func (a *Agent) endFormers() {
	a.endFormer("")
	limit := time.NewTimer(a.opts.Grace + time.Second)
	defer limit.Stop()
	for a.draining() > 0 {
		select {
		case <-limit.C:
			return
		case <-a.pub.changed:
		}
	}
}

// goodbye says to the agents before this one that it ends as it was asked to.
func (a *Agent) goodbye() {
	for _, f := range a.formers() {
		_ = f.line.Send(handover.Message{Kind: handover.Exit}) // one that is gone need not know
		_ = f.line.Close()
	}
}

// keepSocket has the service manager keep a listening socket for a process to come.
func (a *Agent) keepSocket(l *net.TCPListener) {
	if err := a.opts.Manager.Store(socketName(l), l); err != nil {
		a.log.Debug("the service manager does not keep a socket", "err", err)
	}
}

func (a *Agent) forgetSocket(l *net.TCPListener) {
	if err := a.opts.Manager.Forget(socketName(l)); err != nil {
		a.log.Debug("the service manager keeps a socket", "err", err)
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

// control is the control socket's listener. One that leaves accepts nothing, and
// does not say so until it is closed: calls that have come are still answered.
type control struct {
	net.Listener
	left, closed chan struct{}
	leaving, end func()
}

func newControl(l net.Listener) *control {
	c := &control{Listener: l, left: make(chan struct{}), closed: make(chan struct{})}
	c.leaving = sync.OnceFunc(func() { close(c.left) })
	c.end = sync.OnceFunc(func() { close(c.closed) })
	if u, ok := l.(interface{ SetUnlinkOnClose(bool) }); ok {
		u.SetUnlinkOnClose(true) // an inherited one has to be asked
	}
	return c
}

// leave closes the socket here; another process has it.
func (c *control) leave() {
	if u, ok := c.Listener.(interface{ SetUnlinkOnClose(bool) }); ok {
		u.SetUnlinkOnClose(false)
	}
	c.leaving()
	_ = c.Listener.Close()
}

// Accept waits for the next call.
func (c *control) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	select {
	case <-c.left:
		if err != nil {
			<-c.closed
		}
	default:
	}
	return conn, err
}

// Close closes the socket.
func (c *control) Close() error {
	c.end()
	return c.Listener.Close()
}
