package tunnel

import (
	"sync"

	"berth/proxies"
)

// paces are the paces at which proxies are dialled, one for all tunnels through a
// proxy. The zero value is ready to use.
type paces struct {
	mu sync.Mutex // guards by
	by map[string]*proxies.Pace
}

// of returns the pace of a proxy.
func (p *paces) of(proxyAddr string) *proxies.Pace {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.by == nil {
		p.by = make(map[string]*proxies.Pace)
	}
	if p.by[proxyAddr] == nil {
		p.by[proxyAddr] = proxies.NewPace()
	}
	return p.by[proxyAddr]
}
