package requests

import (
	"maps"
	"slices"
	"sync"

	"berth/agent/login"
)

// heldAssumes are the assumes that wait for a login, as clients of a tunnel do:
// by the login, and the request.
type heldAssumes struct {
	mu sync.Mutex // guards by
	by map[login.Key]map[string]int
}

// enter counts one more; the caller calls leave when it no longer waits.
func (h *heldAssumes) enter(key login.Key, id string) (leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by == nil {
		h.by = make(map[login.Key]map[string]int)
	}
	if h.by[key] == nil {
		h.by[key] = make(map[string]int)
	}
	h.by[key][id]++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.by[key][id]--; h.by[key][id] == 0 {
			delete(h.by[key], id)
		}
	}
}

// at returns the requests that wait for a login.
func (h *heldAssumes) at(key login.Key) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.by[key]))
}
