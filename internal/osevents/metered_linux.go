package osevents

import (
	"context"

	"github.com/godbus/dbus/v5"
)

const (
	networkName    = "org.freedesktop.NetworkManager"
	networkPath    = dbus.ObjectPath("/org/freedesktop/NetworkManager")
	networkMetered = "Metered"
	// Of NMMetered: it was set so, or is guessed, as for a phone's network.
	meteredYes, meteredGuessYes = 1, 3
)

// listenMetered follows whether NetworkManager counts the network as metered.
func listenMetered(ctx context.Context, m *Monitor, up func()) error {
	b, err := m.connectSystem(ctx)
	if err != nil {
		return err
	}
	defer b.Close() //nolint:errcheck // nothing is to be sent any more
	defer m.sparing.metered.Store(false)
	if err := b.follow(ctx, networkName, dbus.WithMatchObjectPath(networkPath), dbus.WithMatchMember("PropertiesChanged")); err != nil {
		return err
	}
	askMetered(ctx, m, b)
	up()
	return b.each(ctx, func(s *dbus.Signal) {
		if b.newOwner(s) == networkName {
			askMetered(ctx, m, b)
			return
		}
		if s.Name != propsChanged || s.Path != networkPath || !b.from(s, networkName) || len(s.Body) < 2 {
			return
		}
		changed, _ := s.Body[1].(map[string]dbus.Variant)
		if _, ok := changed[networkMetered]; ok {
			askMetered(ctx, m, b)
		}
	})
}

// askMetered asks a manager that has come, and forgets one that has gone.
func askMetered(ctx context.Context, m *Monitor, b *bus) {
	var metered uint32
	if b.owner(networkName) != "" {
		if err := b.get(ctx, networkName, networkPath, networkName, networkMetered, &metered); err != nil {
			m.log.Debug("network manager not understood", "err", err)
		}
	}
	m.sparing.metered.Store(metered == meteredYes || metered == meteredGuessYes)
}
