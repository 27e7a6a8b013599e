package osevents

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"berth/internal/busaddr"

	"github.com/godbus/dbus/v5"
)

const (
	busName      = "org.freedesktop.DBus"
	busTimeout   = 5 * time.Second
	ownerChanged = busName + ".NameOwnerChanged"
	propsChanged = "org.freedesktop.DBus.Properties.PropertiesChanged"
)

var errBusGone = errors.New("the bus has gone")

// bus is a connection of our own to a message bus.
type bus struct {
	*dbus.Conn

	signals chan *dbus.Signal

	mu     sync.Mutex        // guards owners
	owners map[string]string // by name: the only connection whose signals count
}

// connect connects to the bus at address for as long as ctx lasts.
func connect(ctx context.Context, address string) (*bus, error) {
	conn, err := dbus.Connect(address, dbus.WithContext(ctx), dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	b := &bus{Conn: conn, signals: make(chan *dbus.Signal, 16), owners: make(map[string]string)}
	conn.Signal(b.signals)
	return b, nil
}

// connectSystem connects to the system's bus.
func (m *Monitor) connectSystem(ctx context.Context) (*bus, error) {
	return connect(ctx, cmp.Or(m.cfg.SystemBus, busaddr.System()))
}

// follow keeps track of who owns name, and has its signals delivered that match.
// It does not start the owner.
func (b *bus) follow(ctx context.Context, name string, match ...dbus.MatchOption) error {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	if err := b.AddMatchSignalContext(ctx, dbus.WithMatchSender(busName), dbus.WithMatchInterface(busName),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name)); err != nil {
		return fmt.Errorf("listen to the bus: %w", err)
	}
	if err := b.AddMatchSignalContext(ctx, append(match, dbus.WithMatchSender(name))...); err != nil {
		return fmt.Errorf("listen to %s: %w", name, err)
	}
	var owner string
	err := b.BusObject().CallWithContext(ctx, busName+".GetNameOwner", 0, name).Store(&owner)
	var none dbus.Error
	if errors.As(err, &none) && none.Name == busName+".Error.NameHasNoOwner" {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("ask who is %s: %w", name, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.owners[name] = owner
	return nil
}

// owner returns the connection that owns name; empty while none does.
func (b *bus) owner(name string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.owners[name]
}

// from reports whether a signal comes from the owner of name: anybody on the
// bus can send signals that look like it.
func (b *bus) from(s *dbus.Signal, name string) bool {
	owner := b.owner(name)
	return owner != "" && s.Sender == owner
}

// newOwner returns the name that has changed hands, or nothing.
func (b *bus) newOwner(s *dbus.Signal) string {
	if s.Name != ownerChanged || s.Sender != busName || len(s.Body) != 3 {
		return ""
	}
	name, _ := s.Body[0].(string)
	owner, ok := s.Body[2].(string)
	if !ok {
		return ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.owners[name] = owner
	return name
}

// get reads a property into v, within a time limit.
func (b *bus) get(ctx context.Context, name string, path dbus.ObjectPath, iface, property string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	var value dbus.Variant
	err := b.Object(name, path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart,
		iface, property).Store(&value)
	if err == nil {
		err = value.Store(v)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", property, err)
	}
	return nil
}

// each calls f for every signal until the bus or ctx ends.
func (b *bus) each(ctx context.Context, f func(*dbus.Signal)) error {
	for {
		select {
		case s, ok := <-b.signals:
			if !ok {
				return errBusGone
			}
			f(s)
		case <-b.Context().Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errBusGone
		}
	}
}
