package tunnel

import (
	"sync"
)

// cutters are the clusters that cut connections at the end of the cert they were
// opened with. The zero value is ready to use.
type cutters struct {
	mu   sync.Mutex // guards seen
	seen map[string]bool
}

func (c *cutters) has(clusterName string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[clusterName]
}

func (c *cutters) note(clusterName string, cuts bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = make(map[string]bool)
	}
	c.seen[clusterName] = cuts
}
