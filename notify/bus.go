//go:build !windows && !darwin

package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/godbus/dbus/v5"

	"berth/internal/plain"
	"berth/internal/wake"
)

const (
	serverName  = "org.freedesktop.Notifications"
	serverPath  = "/org/freedesktop/Notifications"
	busName     = "org.freedesktop.DBus"
	errNoOwner  = busName + ".Error.NameHasNoOwner"
	errNoServer = busName + ".Error.ServiceUnknown"

	callTime  = 5 * time.Second // for a service to answer
	tryTime   = 3 * time.Second // for a connection that Show waits for
	graceTime = 3 * time.Second // for a service that left to come back
	maxRetry  = 2 * time.Minute // between attempts to reach the bus
	maxAsk    = 3               // times that a service is asked what it can do
	healthy   = time.Minute     // after which a lost bus is tried at once
)

// bus shows notifications through the session's message bus.
type bus struct {
	saving sync.Mutex // one writer of the state file at a time

	cfg      Config
	log      *slog.Logger
	address  func() (string, error)
	plain    *plainer
	patience time.Duration // for a service to answer
	picture  any           // the icon as the service wants it; nil means none
	kick     chan struct{} // capacity 1: a caller waits for a connection
	dirty    chan struct{} // capacity 1: the state file is out of date

	changed wake.Broadcast // what follows has changed
	mu      sync.Mutex     // guards what follows
	conn    *dbus.Conn     // nil while there is none
	tried   bool           // to connect, since the last connection
	err     error          // why there is no connection
	server  server
	starts  bool            // the bus can start a service when one is needed
	plainly bool            // the last message went out plainly
	late    map[string]bool // IDs whose answer is waited for no longer
	shown   map[string]shown
	byNum   map[uint32]string // IDs by the service's numbers
}

// server is one owner of the service's name.
type server struct {
	owner string // its connection; empty while the name has no owner
	asked bool   // it has been asked for what follows
	name  string
	spec  string
	can   map[string]bool
}

// shown is a notification that the service has accepted.
type shown struct {
	num    uint32
	keys   []string
	text   string // the key that a click on the text stands for
	before bool   // by a process before this one
}

func newBus(cfg Config, address func() (string, error), plain *plainer) *bus {
	return &bus{
		cfg: cfg, log: cfg.Logger, address: address, plain: plain, patience: callTime, picture: picture(cfg.Icon),
		kick: make(chan struct{}, 1), dirty: make(chan struct{}, 1),
		shown: make(map[string]shown), byNum: make(map[uint32]string), late: make(map[string]bool),
	}
}

// change runs f under the lock and wakes whoever waits for a change.
func (b *bus) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	b.changed.Wake()
}

// await waits until ok, which is called with the lock held, and reports whether
// it came to that before ctx ended.
func (b *bus) await(ctx context.Context, ok func() bool) bool {
	for {
		changed := b.changed.Changed()
		b.mu.Lock()
		yes := ok()
		b.mu.Unlock()
		if yes {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// capabilities implements backend.
func (b *bus) capabilities() Capabilities {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := Capabilities{Backend: "dbus", Plain: b.plainly}
	switch {
	case b.conn == nil && b.err != nil:
		c.Problem = b.err
	case b.conn == nil || b.server.owner == "" && !b.starts:
		c.Problem = ErrUnavailable
	case b.server.owner != "":
		c.Server, c.Replace, c.Actions = b.server.name, true, b.server.can["actions"]
	}
	return c
}

// run implements backend: it keeps a connection of its own to the bus.
func (b *bus) run(ctx context.Context, to sink) error {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = 200*time.Millisecond, maxRetry
	logged := ""
	for {
		start := time.Now()
		err := b.session(ctx, to)
		if ctx.Err() != nil {
			return nil
		}
		b.change(func() { b.err, b.tried = fmt.Errorf("%w (%w)", ErrUnavailable, err), true })
		if time.Since(start) > healthy {
			retry.Reset()
			logged = ""
		}
		if text := err.Error(); text != logged { // once, however long it lasts
			b.log.Warn("notifications cannot be shown", "err", err)
			logged = text
		}
		timer := time.NewTimer(retry.NextBackOff())
		select {
		case <-timer.C:
		case <-b.kick:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// errBusGone says that the bus has ended.
var errBusGone = errors.New("the session bus has gone")

// session serves one connection to the bus until it ends.
func (b *bus) session(ctx context.Context, to sink) error {
	address, err := b.address() // looked up here: the library would launch a bus
	if err != nil {
		return err
	}
	conn, err := dbus.Connect(address, dbus.WithContext(ctx), dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		return fmt.Errorf("connect to the session bus: %w", err)
	}
	defer func() { _ = conn.Close() }()
	signals := make(chan *dbus.Signal, 16)
	conn.Signal(signals)
	owner, err := b.listen(ctx, conn)
	if err != nil {
		return err
	}
	defer b.change(func() {
		b.conn, b.tried, b.server, b.starts = nil, false, server{}, false
		clear(b.shown)
		clear(b.byNum)
		clear(b.late)
	})
	starts, busID := b.canStart(ctx, conn), b.recall(ctx, conn, owner)
	b.change(func() {
		b.conn, b.err, b.tried, b.starts, b.server.owner = conn, nil, true, starts, owner
	})
	// Asking may take the service long, and signals must not wait for it.
	var asking sync.WaitGroup
	defer asking.Wait()
	defer func() {
		if ctx.Err() != nil {
			b.save(busID)
		}
		_ = conn.Close() // before waiting: it ends all calls
	}()
	asking.Go(func() { b.remember(conn.Context(), busID) })
	if owner != "" {
		asking.Go(func() { b.meet(conn, owner, to) })
	}
	for {
		select {
		case s, ok := <-signals:
			if !ok {
				return errBusGone
			}
			owner, changed := newOwner(s)
			switch {
			case !changed:
				b.signal(s, to)
			case owner != "":
				b.forget(owner)
				asking.Go(func() { b.meet(conn, owner, to) })
			default:
				if b.forget(""); b.hasShown() {
					asking.Go(func() { b.revive(conn) })
				}
			}
		case <-conn.Context().Done():
			return errBusGone
		}
	}
}

// listen has the service's signals delivered, and returns who it is.
func (b *bus) listen(ctx context.Context, conn *dbus.Conn) (owner string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if err := conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(busName), dbus.WithMatchInterface(busName),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, serverName)); err != nil {
		return "", fmt.Errorf("listen to the bus: %w", err)
	}
	// The bus itself keeps away what others send in the service's name.
	if err := conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(serverName),
		dbus.WithMatchInterface(serverName), dbus.WithMatchObjectPath(serverPath)); err != nil {
		return "", fmt.Errorf("listen to the notification service: %w", err)
	}
	err = conn.BusObject().CallWithContext(ctx, busName+".GetNameOwner", 0, serverName).Store(&owner)
	if err != nil && !isError(err, errNoOwner) {
		return "", fmt.Errorf("ask who shows notifications: %w", err)
	}
	return owner, nil
}

func isError(err error, names ...string) bool {
	var e dbus.Error
	if !errors.As(err, &e) {
		return false
	}
	return slices.Contains(names, e.Name)
}

// newOwner returns who owns the service's name from now on.
func newOwner(s *dbus.Signal) (owner string, ok bool) {
	if s.Name != busName+".NameOwnerChanged" || s.Sender != busName || len(s.Body) != 3 {
		return "", false
	}
	if name, _ := s.Body[0].(string); name != serverName {
		return "", false
	}
	owner, ok = s.Body[2].(string)
	return owner, ok
}

// forget forgets what the service before was given: it took it along.
func (b *bus) forget(owner string) {
	b.change(func() {
		b.server = server{owner: owner}
		clear(b.byNum)
		if owner != "" {
			clear(b.shown)
		}
	})
}

// meet asks a service what it can do.
func (b *bus) meet(conn *dbus.Conn, owner string, to sink) {
	for attempt := range maxAsk {
		s, err := b.ask(conn, owner)
		if attempt == 0 {
			to.fresh() // before anything is given to this one
		}
		current := false
		b.change(func() {
			if current = b.conn == conn && b.server.owner == owner; current {
				b.server, b.plainly = s, false
			}
		})
		if !current {
			return
		}
		if err == nil {
			b.log.Info("notifications are shown", "server", s.name, "actions", s.can["actions"])
			return
		}
		b.log.Debug("the notification service does not say what it can do", "err", err)
		if !b.within(conn.Context(), b.patience, func() bool { return b.server.owner != owner }) && conn.Context().Err() != nil {
			return
		}
	}
}

// revive gives a service that went while it showed something a while to come
// back, and then has the bus start one if that knows how to.
func (b *bus) revive(conn *dbus.Conn) {
	if b.within(conn.Context(), graceTime, func() bool { return b.server.owner != "" }) {
		return
	}
	if err := b.start(conn.Context(), conn); err != nil && conn.Context().Err() == nil {
		b.log.Warn("the notification service has gone", "err", err)
	}
}

func (b *bus) hasShown() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.shown) > 0
}

// within is await with a limit.
func (b *bus) within(ctx context.Context, d time.Duration, ok func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return b.await(ctx, ok)
}

// start has the bus start a service.
func (b *bus) start(ctx context.Context, conn *dbus.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return conn.BusObject().CallWithContext(ctx, busName+".StartServiceByName", 0, serverName, uint32(0)).Err
}

// canStart reports whether the bus can start a service.
func (b *bus) canStart(ctx context.Context, conn *dbus.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var names []string
	err := conn.BusObject().CallWithContext(ctx, busName+".ListActivatableNames", 0).Store(&names)
	return err == nil && slices.Contains(names, serverName)
}

// ask asks a service for its name and what it can do. A service that does not answer
// is taken to show text and nothing else.
func (b *bus) ask(conn *dbus.Conn, owner string) (server, error) {
	ctx, cancel := context.WithTimeout(conn.Context(), b.patience)
	defer cancel()
	s := server{owner: owner, asked: true, can: make(map[string]bool)}
	object := conn.Object(owner, serverPath)
	var can []string
	err := object.CallWithContext(ctx, serverName+".GetCapabilities", dbus.FlagNoAutoStart).Store(&can)
	for _, c := range can {
		s.can[c] = true
	}
	var vendor, version string
	err = errors.Join(err, object.CallWithContext(ctx, serverName+".GetServerInformation", dbus.FlagNoAutoStart).
		Store(&s.name, &vendor, &version, &s.spec))
	if s.name = plain.Short(s.name+" "+version, maxLabel); s.name == "" {
		s.name = "unnamed"
	}
	return s, err
}
