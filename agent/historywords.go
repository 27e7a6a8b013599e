package agent

import (
	"fmt"
	"strings"
	"time"

	"berth/agent/state"
)

// entryKey says which events share a line.
type entryKey struct {
	kind     state.EventKind
	forLogin bool   // of EventWaited
	why      string // of the others
}

// entry is one line of a history: one event, or a burst of the same.
type entry struct {
	kind     state.EventKind
	key      entryKey
	at, last time.Time
	text     string     // of single events: all there is to say
	until    *time.Time // of a cert: its end

	count   int
	client  string        // the first one's program; empty while nobody knows
	waiting int           // still held
	refused int           // of those that were held
	left    int           // likewise: hung up
	longest time.Duration // of the waits that are over
}

func (e *entry) event(now time.Time) state.Event {
	ev := state.Event{At: e.at.Round(0).UTC(), Kind: e.kind, Text: e.text, Until: e.until}
	if e.count > 1 && e.last.Sub(e.at) >= time.Second {
		ev.Until = utc(e.last)
	}
	if e.count > 0 {
		ev.Text = e.words(now)
	}
	return ev
}

// words says what became of one client or many.
func (e *entry) words(now time.Time) string {
	switch e.kind {
	case state.EventConnected:
		return plural(e.count, "connection") + " opened"
	case state.EventBroken:
		return plural(e.count, "connection") + " broke: " + e.key.why
	case state.EventRefused:
		verb := " was refused: "
		if e.count > 1 {
			verb = " were refused: "
		}
		return e.who() + verb + e.key.why
	default:
		return e.waitWords(now)
	}
}

func (e *entry) waitWords(now time.Time) string {
	what := "a cert"
	if e.key.forLogin {
		what = "a login"
	}
	switch {
	case e.waiting == e.count && e.count == 1:
		return fmt.Sprintf("%s waits for %s, for %s now", e.who(), what, spell(now.Sub(e.at)))
	case e.waiting == e.count:
		return fmt.Sprintf("%s wait for %s, for up to %s now", e.who(), what, spell(now.Sub(e.at)))
	case e.count == 1:
		text := fmt.Sprintf("%s waited %s for %s", e.who(), spell(e.longest), what)
		switch {
		case e.refused > 0:
			text += " and was refused"
		case e.left > 0:
			text += " and hung up"
		}
		return text
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s waited up to %s for %s", e.who(), spell(e.longest), what)
	for _, some := range []struct {
		n    int
		what string
	}{{e.refused, "refused"}, {e.left, "hung up"}, {e.waiting, "still waiting"}} {
		if some.n > 0 {
			fmt.Fprintf(&text, ", %d %s", some.n, some.what)
		}
	}
	return text.String()
}

// who names the client, or the first of many.
func (e *entry) who() string {
	switch {
	case e.count == 1 && e.client == "":
		return "a client"
	case e.count == 1:
		return e.client
	case e.client == "":
		return plural(e.count, "client")
	default:
		return fmt.Sprintf("%d clients, the first of them %s,", e.count, e.client)
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// spell words a wait the way a person would say it.
func spell(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Round(time.Second).Seconds()))
	default:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute).Minutes()))
	}
}

func trimStop(s string) string { return strings.TrimSuffix(s, ".") }

// changedKeys names the config keys in which two versions of a tunnel differ.
func changedKeys(from, to state.TunnelSpec) string {
	var keys []string
	differ := func(key string, a, b any) {
		if a != b {
			keys = append(keys, fmt.Sprintf("%s from %v to %v", key, orNone(a), orNone(b)))
		}
	}
	differ("kind", from.Kind, to.Kind)
	differ("cluster", from.Cluster, to.Cluster)
	differ("resource", from.Resource, to.Resource)
	differ("db_user", from.DBUser, to.DBUser)
	differ("db_name", from.DBName, to.DBName)
	differ("port", from.Port, to.Port)
	differ("hold", from.HoldDuration(), to.HoldDuration())
	differ("engine", from.Engine, to.Engine)
	differ("guard", from.Guarded(), to.Guarded())
	return strings.Join(keys, ", ")
}

func orNone(v any) any {
	if fmt.Sprint(v) == "" {
		return "nothing"
	}
	return v
}
