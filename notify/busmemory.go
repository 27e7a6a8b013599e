//go:build !windows && !darwin

package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/godbus/dbus/v5"

	"berth/internal/atomicfile"
)

const (
	maxMemory = 64 << 10         // bytes of the state file
	claimTime = 15 * time.Second // for the caller to show again what was on the screen before it started
)

// memory records what is on the screen, for the next process. The service's numbers
// mean something to that service on that bus only.
type memory struct {
	Bus    string            `json:"bus"`
	Server string            `json:"server"`
	Shown  map[string]memoir `json:"shown"`
}

// memoir is one notification.
type memoir struct {
	Num  uint32   `json:"num"`
	Keys []string `json:"keys"`
	Text string   `json:"text"`
}

// recall takes over what a process before this one has shown, if the same
// service still shows it, and returns a name for the bus.
func (b *bus) recall(ctx context.Context, conn *dbus.Conn, owner string) (busID string) {
	if b.cfg.StateFile == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if err := conn.BusObject().CallWithContext(ctx, busName+".GetId", 0).Store(&busID); err != nil {
		return ""
	}
	m, err := readMemory(b.cfg.StateFile)
	if err != nil {
		b.log.Debug("what was shown before is not known", "err", err)
		return busID
	}
	if owner == "" || m.Bus != busID || m.Server != owner {
		return busID
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, one := range m.Shown {
		if one.Num == 0 || len(b.shown) >= maxOpen || checkKey(id) != nil || b.byNum[one.Num] != "" {
			continue
		}
		b.shown[id] = shown{num: one.Num, keys: one.Keys, text: one.Text, before: true}
		b.byNum[one.Num] = id
	}
	return busID
}

func readMemory(path string) (m memory, err error) {
	f, err := os.Open(path)
	if err != nil {
		return m, err
	}
	defer func() { _ = f.Close() }()
	if err := json.NewDecoder(io.LimitReader(f, maxMemory)).Decode(&m); err != nil {
		return m, fmt.Errorf("read %q: %w", path, err)
	}
	return m, nil
}

// remember keeps the state file as b is, until ctx ends. What was taken over and
// is not shown again soon is over, and is withdrawn.
func (b *bus) remember(ctx context.Context, busID string) {
	timer := time.NewTimer(claimTime)
	defer timer.Stop()
	for {
		select {
		case <-b.dirty:
			b.save(busID)
		case <-timer.C:
			for _, id := range b.unclaimed() {
				_ = b.withdraw(ctx, id)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (b *bus) unclaimed() (ids []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, one := range b.shown {
		if one.before {
			ids = append(ids, id)
		}
	}
	return ids
}

// save writes the state file.
func (b *bus) save(busID string) {
	if b.cfg.StateFile == "" || busID == "" {
		return
	}
	b.saving.Lock() // what was looked at first is not written last
	defer b.saving.Unlock()
	b.mu.Lock()
	m := memory{Bus: busID, Server: b.server.owner, Shown: make(map[string]memoir, len(b.shown))}
	for id, one := range b.shown {
		m.Shown[id] = memoir{Num: one.num, Keys: one.keys, Text: one.text}
	}
	b.mu.Unlock()
	data, err := json.Marshal(m)
	if err == nil {
		err = atomicfile.Write(b.cfg.StateFile, data, 0o600)
	}
	if err != nil {
		b.log.Warn("what is on the screen is not remembered", "err", err)
	}
}

// touched has the state file written soon.
func (b *bus) touched() {
	select {
	case b.dirty <- struct{}{}:
	default: // it is due already
	}
}
