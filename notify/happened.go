package notify

import "time"

// What happens to notifications on the screen: the notifier as its backend's
// sink.

// acted implements sink. The first click takes the card away: there is no
// second one.
func (n *notifier) acted(id, key string) {
	n.take(id)
	n.tell("click", func() { n.cfg.OnAction(id, key) })
}

// closed implements sink.
func (n *notifier) closed(id string) {
	if n.take(id) {
		n.tell("dismissal", func() { n.cfg.OnClosed(id) })
	}
}

// expired implements sink.
func (n *notifier) expired(id string) { n.take(id) }

// take forgets a card that is gone from the screen, unless other words of it
// are on their way there.
func (n *notifier) take(id string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.open[id]
	if c == nil {
		return false
	}
	if c.pending {
		c.shown = false
		return false
	}
	n.forget(id, c)
	return true
}

func (n *notifier) tell(what string, f func()) {
	select {
	case n.events <- f:
	default:
		n.log.Warn("an event of a notification is lost: earlier ones are still being dealt with", "event", what)
	}
}

// fresh implements sink. What was shown is shown again, but not at once once
// more: a service that dies of a notification must not be fed it for ever. What
// could not be shown is tried again.
func (n *notifier) fresh() {
	n.mu.Lock()
	for id, c := range n.open {
		switch {
		case c.flying:
			c.missed = true
		case !c.shown:
			c.pending = true
		case time.Since(c.again) > againAfter:
			c.pending, c.shown, c.again = true, false, time.Now()
		default:
			n.forget(id, c)
		}
	}
	n.mu.Unlock()
	n.poke()
}
