//go:build !windows && !darwin

package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/godbus/dbus/v5"
)

// errNoService says that no service runs and none can be started.
var errNoService = errors.New("no notification service")

// show implements backend.
func (b *bus) show(ctx context.Context, n Notification) error {
	conn, s, err := b.reach(ctx)
	if err == nil {
		err = b.give(ctx, conn, s, n)
	}
	if !errors.Is(err, errNoService) {
		return err
	}
	err = b.plain.show(ctx, n)
	b.change(func() { b.plainly = err == nil })
	return err
}

// reach returns the connection and the service behind it.
func (b *bus) reach(ctx context.Context) (*dbus.Conn, server, error) {
	b.mu.Lock()
	if b.conn == nil && b.tried {
		b.tried = false
		select {
		case b.kick <- struct{}{}:
		default: // an attempt is due already
		}
	}
	b.mu.Unlock()
	b.within(ctx, tryTime, func() bool { return b.conn != nil || b.tried })
	b.mu.Lock()
	conn, err, owner := b.conn, b.err, b.server.owner
	b.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return nil, server{}, ctx.Err()
	case conn == nil && err != nil:
		return nil, server{}, err
	case conn == nil:
		return nil, server{}, ErrUnavailable
	case owner == "":
		// This may only have become known; what is started announces itself.
		if err := b.start(ctx, conn); err != nil {
			return nil, server{}, b.startError(ctx, err)
		}
	}
	if !b.await(ctx, func() bool { return b.server.asked || b.conn != conn }) {
		return nil, server{}, fmt.Errorf("%w (%w)", ErrUnavailable, errNoAnswer)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != conn {
		return nil, server{}, fmt.Errorf("%w (%w)", ErrUnavailable, errBusGone)
	}
	return conn, b.server, nil
}

func (b *bus) startError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case isError(err, errNoServer):
		return errNoService
	}
	return fmt.Errorf("%w (%w)", errNoService, err)
}

// give hands n to the service, in the place of what it has under the same ID.
func (b *bus) give(ctx context.Context, conn *dbus.Conn, s server, n Notification) error {
	b.mu.Lock()
	before := b.shown[n.ID]
	b.mu.Unlock()
	m := s.message(n, b.cfg, b.picture)
	call := conn.Object(s.owner, serverPath).Go(serverName+".Notify", dbus.FlagNoAutoStart, make(chan *dbus.Call, 1),
		b.cfg.AppName, before.num, m.icon, m.summary, m.body, m.actions, m.hints, m.expire)
	ctx, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	select {
	case <-call.Done:
		return b.given(conn, s, n, call, false)
	case <-ctx.Done():
		b.change(func() { b.late[n.ID] = true })
		// The answer may come yet, and with it the number to withdraw it by. The
		// call ends with the connection at the latest.
		go func() {
			<-call.Done
			_ = b.given(conn, s, n, call, true)
		}()
		return fmt.Errorf("%w (%w: %s)", ErrUnavailable, errNoAnswer, s.name)
	}
}

// given notes what number the service gave to n. What comes late and is not
// wanted any longer is withdrawn.
func (b *bus) given(conn *dbus.Conn, s server, n Notification, call *dbus.Call, late bool) error {
	var num uint32
	if err := call.Store(&num); err != nil {
		if isError(err, errNoServer, errNoOwner) {
			return errNoService // it went just now
		}
		return fmt.Errorf("show a notification through %q: %w", s.name, err)
	}
	if num == 0 {
		return fmt.Errorf("show a notification through %q: it gave no number", s.name)
	}
	if late && !b.stillWanted(n.ID, num) {
		conn.Object(s.owner, serverPath).Go(serverName+".CloseNotification", dbus.FlagNoAutoStart|dbus.FlagNoReplyExpected, nil, num)
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != conn || b.server.owner != s.owner {
		return nil // it was shown, by a service that has left since
	}
	if old, ok := b.shown[n.ID]; ok && b.byNum[old.num] == n.ID {
		delete(b.byNum, old.num)
	}
	if other, ok := b.byNum[num]; ok {
		delete(b.shown, other)
	}
	keys := make([]string, 0, len(n.Actions))
	buttons, text := n.buttons(maxButtons)
	for _, a := range buttons {
		keys = append(keys, a.Key)
	}
	if text != nil {
		keys = append(keys, text.Key)
	}
	b.shown[n.ID], b.byNum[num] = shown{num: num, keys: keys, text: n.textKey()}, n.ID
	b.touched()
	return nil
}

// holds implements backend.
func (b *bus) holds(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.shown[id].num != 0 && b.server.owner != ""
}

// stillWanted reports whether what came late is neither withdrawn nor replaced.
func (b *bus) stillWanted(id string, num uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	wanted := b.late[id]
	delete(b.late, id)
	other, replaced := b.shown[id]
	return wanted && (!replaced || other.num == num)
}

// withdraw implements backend.
func (b *bus) withdraw(ctx context.Context, id string) error {
	b.mu.Lock()
	conn, owner, what := b.conn, b.server.owner, b.shown[id]
	delete(b.shown, id)
	delete(b.late, id)
	if b.byNum[what.num] == id {
		delete(b.byNum, what.num)
		b.touched()
	}
	b.mu.Unlock()
	if conn == nil || owner == "" || what.num == 0 {
		return nil
	}
	return conn.Object(owner, serverPath).
		CallWithContext(ctx, serverName+".CloseNotification", dbus.FlagNoAutoStart, what.num).Err
}

// Why a notification was closed: the person put it away.
const reasonDismissed = 2

// signal handles a signal of the service. Any program can forge such a signal,
// and any service can send nonsense.
func (b *bus) signal(s *dbus.Signal, to sink) {
	if len(s.Body) != 2 {
		return
	}
	num, ok := s.Body[0].(uint32)
	if !ok {
		return
	}
	b.mu.Lock()
	id, known := b.byNum[num]
	if !known || s.Sender != b.server.owner {
		b.mu.Unlock()
		return
	}
	what := b.shown[id]
	key, isKey := s.Body[1].(string)
	reason, isReason := s.Body[1].(uint32)
	action := s.Name == serverName+".ActionInvoked" && isKey && slices.Contains(what.keys, key)
	closed := s.Name == serverName+".NotificationClosed" && isReason
	if action || closed { // either takes it from the screen: a second click does not count
		delete(b.byNum, num)
		delete(b.shown, id)
		b.touched()
	}
	b.mu.Unlock()
	if key == DefaultKey { // of these words: others may wait to take their place
		key = cmp.Or(what.text, key)
	}
	switch {
	case action:
		to.acted(id, key)
	case closed && reason == reasonDismissed:
		to.closed(id)
	case closed:
		to.expired(id)
	}
}
