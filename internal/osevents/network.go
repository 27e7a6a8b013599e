package osevents

import (
	"context"
	"fmt"
	"hash/maphash"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// settle is how long the network must be quiet before a change is
	// reported: one change comes as up to eight messages.
	settle = time.Second
	// settleMax is how long a network that is never quiet can hold that back.
	settleMax = 5 * time.Second
)

// networkState is the network as it was at the last look, as a hash.
type networkState struct {
	read func(add func(string))

	mu   sync.Mutex // guards what follows; held while reading, so that looks are in order
	seed maphash.Seed
	last uint64
	any  bool
}

// changed looks at the network and reports whether it is another one.
func (n *networkState) changed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.any {
		n.seed = maphash.MakeSeed()
	}
	var facts []string // in no order that could be relied on
	n.read(func(s string) { facts = append(facts, s) })
	slices.Sort(facts)
	var h maphash.Hash
	h.SetSeed(n.seed)
	for _, s := range facts {
		_, _ = h.WriteString(s) // never fails
		_ = h.WriteByte(0)
	}
	before, had := n.last, n.any
	n.last, n.any = h.Sum64(), true
	return had && before != n.last
}

// readNetwork adds interfaces that are up, their addresses, and the routes
// where the system lets itself be asked for them.
func readNetwork(add func(string)) {
	interfaces, err := net.Interfaces()
	if err != nil {
		add(err.Error())
		return
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		add(fmt.Sprint(i.Name, " ", i.Flags&net.FlagRunning))
		addrs, err := i.Addrs()
		if err != nil {
			add(err.Error())
		}
		for _, a := range addrs {
			add(i.Name + " " + a.String())
		}
	}
	readRoutes(add)
}

// afterChanges calls look when changes have come and then none for a while.
func afterChanges(ctx context.Context, changes <-chan struct{}, look func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
		}
		latest := time.After(settleMax)
		for quiet := false; !quiet; {
			select {
			case <-ctx.Done():
				return
			case <-changes:
			case <-time.After(settle):
				quiet = true
			case <-latest:
				quiet = true
			}
		}
		look()
	}
}

// hint wakes whoever waits for changes.
func hint(changes chan<- struct{}) {
	select {
	case changes <- struct{}{}:
	default: // woken already
	}
}
