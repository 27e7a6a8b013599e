package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"berth/agent/handover"
	"berth/agent/ipc"
	"berth/agent/memory"
	"berth/agent/notices"
	"berth/agent/process"
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

// errStopping says why an agent has no successor.
var errStopping = errors.New("the agent is stopping")

// inheritance is what a successor gets besides sockets.
type inheritance struct {
	Tunnels map[string]tunnel.Past `json:"tunnels"`
	Notices notices.Saved          `json:"notices,omitempty"`
}

// succession passes an agent's work on to the next one, and takes it over from the
// one before.
type succession struct {
	opts    Options
	log     *slog.Logger
	tunnels *tunnel.Set
	memory  *memory.Store
	pub     *publisher
	grace   func() time.Duration // for the connections that are left behind
	touch   func()               // has the snapshot published
	changed wake.Signal          // wakes when it may be
	stop    func()               // ends the agent

	// rooms ends when the agent stops or another one has taken over: what decides
	// and writes ends with it, and what serves clients does not.
	rooms  context.Context
	retire context.CancelFunc
	left   atomic.Bool // another agent has taken over
	// forGood: the agent was asked to stop, and not by whoever would start it again.
	forGood atomic.Bool

	lock    *process.Lock
	control *handover.Control
	sockets *proxies.Sockets

	requests chan succeed
	hearing  sync.WaitGroup  // of endHearing
	hearers  sync.WaitGroup  // of what the agents before this one say
	deaf     <-chan struct{} // closed when that no longer matters, by deafen
	deafen   func()

	mu       sync.Mutex // guards everything below
	before   []*former
	main     bool     // the service manager takes this process's word
	unwanted []string // what it is to forget once it does
}

// init readies the succession of an agent that ends with ctx; tunnels and memory
// are yet to come.
func (s *succession) init(ctx context.Context) {
	s.rooms, s.retire = context.WithCancel(ctx)
	s.requests, s.main = make(chan succeed), s.opts.Succession.Line == nil
	deaf := make(chan struct{})
	s.deaf, s.deafen = deaf, sync.OnceFunc(func() { close(deaf) })
	s.sockets = proxies.NewSockets(s.keepSocket, s.forgetSocket)
	for _, l := range s.opts.Kept {
		s.sockets.Inherit(l)
	}
}

// serving returns a context for what serves clients. It ends with ctx, but not before
// the service manager is to keep the sockets: it would forget each as its tunnel
// ends, and the agent that it starts next would have ports to bind.
func (s *succession) serving(ctx context.Context) context.Context {
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		s.keepPorts()
		end()
	})
	return serving
}

// keepPorts leaves the sockets to the service manager as the agent ends, for the next
// one. One that stops for good closes its ports: a client that came while connections
// drain would be let in by nothing.
func (s *succession) keepPorts() {
	if !s.forGood.Load() {
		s.sockets.Keep()
	}
}

// former is an agent before this one.
type former struct {
	line    *handover.Line
	open    int             // its connections
	adopted map[string]bool // addresses of the clients that came from it
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

// ask has follow start a successor and returns when that serves.
func (s *succession) ask(ctx context.Context, program string, env []string) (ipc.Successor, error) {
	answer := make(chan succeeded, 1)
	select {
	case s.requests <- succeed{program, env, answer}:
	case <-ctx.Done():
		return ipc.Successor{}, ctx.Err()
	case <-s.rooms.Done():
		return ipc.Successor{}, errStopping
	}
	select {
	case done := <-answer:
		return done.successor, done.err
	case <-ctx.Done():
		return ipc.Successor{}, ctx.Err()
	}
}

// follow replaces the agent when that is asked for. It returns when ctx
// ends, or a successor serves and the last connection of this agent has ended.
func (s *succession) follow(ctx context.Context) error {
	for {
		var want succeed
		select {
		case <-ctx.Done():
			return nil
		case want = <-s.requests:
		case <-s.opts.Succession.Asked:
			answer := make(chan succeeded, 1)
			want = succeed{answer: answer}
		}
		next, who, err := s.handOver(ctx, want)
		if err != nil && !errors.Is(err, errStopping) {
			s.log.Error("no successor took over, this agent goes on", "err", err)
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
			s.left.Store(true)
			s.control.Leave() // whoever hears the answer and asks more asks the successor
		}
		want.answer <- succeeded{who, err} // it has room
		if err == nil {
			return s.leave(ctx, next)
		}
	}
}

// handOver starts a successor and gives it everything. When it returns without an
// error, that serves. An agent that is to stop, since ctx ends, needs none.
func (s *succession) handOver(ctx context.Context, want succeed) (next *handover.Successor, who ipc.Successor, err error) {
	program, env := want.program, append(os.Environ(), want.env...)
	if program == "" {
		program = s.opts.Succession.Program
	}
	if program == "" {
		return nil, who, handover.ErrUnsupported
	}
	env = append(env, s.opts.Manager.Env()...)
	s.log.Info("handing over", "program", program)
	next, err = handover.Start(program, s.opts.Succession.Args, env)
	if err != nil {
		return nil, who, err
	}
	goesOn := context.AfterFunc(ctx, next.Kill)
	defer goesOn()
	ready, err := next.Await(handover.Ready, readyLimit)
	if err == nil && ready.Format != handover.Format {
		err = fmt.Errorf("%s (version %s) hands over in another way", program, ready.Version)
	}
	if err == nil {
		err = s.passOn(next, goesOn)
	}
	if err != nil {
		next.Kill()
		if ctx.Err() != nil {
			err = errStopping
		}
		return nil, who, err
	}
	return next, ipc.Successor{PID: next.PID(), Version: ready.Version}, nil
}

// passOn gives a successor that is ready everything, and waits until it serves. A
// successor that fails, or comes when nothing goesOn, is ended before this agent writes
// and hears again.
func (s *succession) passOn(next *handover.Successor, goesOn func() bool) error {
	s.hush() // the successor is to hear what they say next
	thaw := s.memory.Freeze()
	err := s.give(next.Line)
	if err == nil {
		_, err = next.Await(handover.Serving, servingLimit)
	}
	if err == nil && !goesOn() {
		err = errStopping
	}
	if err != nil {
		next.Kill()
		s.hear()
	}
	thaw(err == nil)
	return err
}

// give passes what a successor needs.
func (s *succession) give(line *handover.Line) error {
	var listeners []handover.Descriptor
	for _, l := range s.sockets.InUse() {
		listeners = append(listeners, l)
	}
	for batch := range slices.Chunk(listeners, 64) {
		if err := line.Send(handover.Message{Kind: handover.Sockets}, batch...); err != nil {
			return err
		}
	}
	for _, f := range s.formers() {
		if err := line.Send(handover.Message{Kind: handover.Former, Connections: f.open}, f.line); err != nil {
			return err
		}
	}
	state, err := json.Marshal(inheritance{Tunnels: s.tunnels.Succession().Pasts(), Notices: s.pub.shown()})
	if err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	lockFile, ok := s.lock.File().(handover.Descriptor)
	control, ok2 := s.control.Listener.(handover.Descriptor)
	if !ok || !ok2 {
		return handover.ErrUnsupported
	}
	return line.Send(handover.Message{Kind: handover.Take, State: state}, lockFile, control)
}

// leave serves what this agent has left, with a successor that serves everything
// else, and returns when nothing is left.
func (s *succession) leave(ctx context.Context, next *handover.Successor) error {
	s.sockets.Keep()
	s.lock.Pass() // one that ends unexpectedly can be replaced while connections drain here
	if err := s.opts.Manager.Send(fmt.Sprintf("MAINPID=%d", next.PID())); err != nil {
		s.log.Warn("the service manager does not know the new process", "err", err)
	}
	for _, f := range s.formers() {
		_ = f.line.Close() // the successor has it
	}
	time.AfterFunc(answerTime, s.retire)
	s.log.Info("handed over", "pid", next.PID())

	grace := s.grace()
	exit := make(chan error, 1)
	go func() { exit <- s.hearSuccessor(next.Line) }()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		tunnels := s.tunnels.Succession()
		tunnels.Leave(grace, s.moveTo(next.Line), func() {
			_ = next.Send(handover.Message{Kind: handover.Moved, Connections: tunnels.Open()})
		})
	}()
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		s.reportOpen(ctx, next.Line, drained)
	}()

	stop := ctx.Done()
	var died error
	for waiting := true; waiting; {
		select {
		case <-drained:
			waiting = false
		case err := <-exit:
			exit = nil
			died = err
			if s.opts.Succession.Stays { // whoever watches this process must see the end
				time.AfterFunc(s.opts.Grace, func() { s.tunnels.Succession().Close("") })
			}
		case <-stop:
			stop = nil
			_ = next.Send(handover.Message{Kind: handover.Stop})
			time.AfterFunc(s.opts.Grace, func() { s.tunnels.Succession().Close("") })
		}
	}
	<-reported
	s.log.Info("the last connection has ended since the agent handed over")
	if s.opts.Succession.Stays && exit != nil {
		select {
		case died = <-exit:
		case <-stop:
			_ = next.Send(handover.Message{Kind: handover.Stop})
			died = <-exit
		}
	}
	_ = next.Close()
	if !s.opts.Succession.Stays {
		return nil
	}
	return died
}

// hearSuccessor does what a successor asks for, and returns how it ended.
func (s *succession) hearSuccessor(line *handover.Line) error {
	for {
		m, _, err := line.Receive()
		switch {
		case err != nil:
			return errSuccessorDied
		case m.Kind == handover.Exit:
			return nil
		case m.Kind == handover.Close && m.Tunnel == "":
			time.AfterFunc(s.opts.Grace, func() { s.tunnels.Succession().Close("") })
		case m.Kind == handover.Close:
			s.tunnels.Succession().Close(m.Tunnel)
		}
	}
}

// moveTo hands clients to a successor.
func (s *succession) moveTo(line *handover.Line) func(string) proxies.Move {
	return func(name string) proxies.Move {
		return func(client *net.TCPConn, said []byte) error {
			return line.Send(handover.Message{Kind: handover.Client, Tunnel: name, Said: said}, client)
		}
	}
}

// reportCounts has the successor know what this agent's connections have moved since
// it last did. A successor that is gone counts no longer.
func (s *succession) reportCounts(line *handover.Line) {
	counts := s.tunnels.Succession().Since()
	if len(counts) == 0 {
		return
	}
	if text, err := json.Marshal(counts); err == nil {
		_ = line.Send(handover.Message{Kind: handover.Counted, State: text})
	}
}

// reportOpen has the successor know how many connections this agent still serves, and
// what they move, until there are none, which it says too.
func (s *succession) reportOpen(ctx context.Context, line *handover.Line, drained <-chan struct{}) {
	said := -1
	for {
		s.reportCounts(line)
		if open := s.tunnels.Succession().Open(); open != said {
			said = open
			if line.Send(handover.Message{Kind: handover.Open, Connections: open}) != nil {
				return
			}
		}
		select {
		case <-drained:
			s.reportCounts(line)
			_ = line.Send(handover.Message{Kind: handover.Open}) // none
			return
		case <-s.changed:
		case <-time.After(publishCounters): // who publishes may have taken the signal
		}
		wake.Sleep(ctx, publishPauseMax)
	}
}
