package history

import (
	"slices"
	"time"

	"berth/agent/state"
)

// Saved is a history on its way to another process.
type Saved struct {
	Entries   []SavedEntry   `json:"entries,omitempty"`
	Held      map[string]int `json:"held,omitempty"` // the entry of a held client, by its address
	LastState string         `json:"last_state,omitempty"`
	CertUntil time.Time      `json:"cert_until,omitzero"`
	RunsAs    string         `json:"runs_as,omitempty"`
}

// SavedEntry is one line of a Saved history.
type SavedEntry struct {
	Kind    state.EventKind `json:"kind"`
	Awaited string          `json:"awaited,omitempty"`
	Why     string          `json:"why,omitempty"`
	By      string          `json:"by,omitempty"`
	At      time.Time       `json:"at"`
	Last    time.Time       `json:"last"`
	Text    string          `json:"text,omitempty"`
	Until   *time.Time      `json:"until,omitempty"`
	Count   int             `json:"count,omitempty"`
	Client  string          `json:"client,omitempty"`
	Waiting int             `json:"waiting,omitempty"`
	Refused int             `json:"refused,omitempty"`
	Left    int             `json:"left,omitempty"`
	Longest time.Duration   `json:"longest,omitempty"`
}

// Save returns what there is.
func (h *History) Save() Saved {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := Saved{LastState: h.lastState, CertUntil: h.certUntil, RunsAs: h.runsAs, Held: make(map[string]int)}
	for _, e := range h.entries {
		s.Entries = append(s.Entries, SavedEntry{
			Kind: e.kind, Awaited: e.key.awaited, Why: e.key.why, By: e.key.by, At: e.at.UTC(), Last: e.last.UTC(), Text: e.text,
			Until: e.until, Count: e.count, Client: e.client, Waiting: e.waiting, Refused: e.refused, Left: e.left,
			Longest: e.longest,
		})
	}
	for addr, e := range h.held {
		if i := slices.Index(h.entries, e); i >= 0 {
			s.Held[addr] = i
		}
	}
	return s
}

// Restore makes s the history of a tunnel whose counters go on from in and out.
func (h *History) Restore(s Saved, in, out int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.plot.in, h.plot.out = in, out
	h.lastState, h.certUntil, h.runsAs = s.LastState, s.CertUntil, s.RunsAs
	h.entries = nil
	for _, e := range s.Entries {
		h.addLocked(&entry{
			kind: e.Kind, key: entryKey{kind: e.Kind, awaited: e.Awaited, why: e.Why, by: e.By}, at: e.At, last: e.Last, text: e.Text,
			until: e.Until, count: e.Count, client: e.Client, waiting: e.Waiting, refused: e.Refused, left: e.Left,
			longest: e.Longest,
		})
	}
	for addr, i := range s.Held {
		if i >= 0 && i < len(h.entries) {
			h.held[addr] = h.entries[i]
		}
	}
}

// KeepHeld takes back that clients are held, but for those at the addresses: another
// process holds the others.
func (h *History) KeepHeld(addrs map[string]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for addr, e := range h.held {
		if !addrs[addr] {
			e.waiting--
			delete(h.held, addr)
		}
	}
}
