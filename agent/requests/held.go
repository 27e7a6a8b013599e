package requests

import (
	"maps"
	"slices"
	"sync"
)

// heldAssumes are the assumes that wait for a login, as clients of a tunnel do:
// by the proxy to log in to, and the request.
type heldAssumes struct {
	mu sync.Mutex // guards by
	by map[string]map[string]int
}

// enter counts one more; the caller calls leave when it no longer waits.
func (h *heldAssumes) enter(proxy, id string) (leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by == nil {
		h.by = make(map[string]map[string]int)
	}
	if h.by[proxy] == nil {
		h.by[proxy] = make(map[string]int)
	}
	h.by[proxy][id]++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.by[proxy][id]--; h.by[proxy][id] == 0 {
			delete(h.by[proxy], id)
		}
	}
}

// at returns the requests that wait for a login at a proxy.
func (h *heldAssumes) at(proxy string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.by[proxy]))
}
