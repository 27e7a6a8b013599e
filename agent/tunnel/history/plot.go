package history

import (
	"time"

	"berth/agent/state"
	"berth/proxies"
)

const (
	// plotStep is what one point of a plot stands for, plotPoints how many are kept:
	// an hour.
	plotStep   = 30 * time.Second
	plotPoints = 120
)

// plot is the last hour of a tunnel: a ring with a place for each step. It is made when
// the first client comes, and learns of bytes from snapshots, so nothing wakes up for it.
type plot struct {
	ring     *[plotPoints]plotPoint // nil: no client yet
	accepted map[string]time.Time   // clients that are not connected yet, by address
	in, out  int64                  // the tunnel's counters when last seen
}

type plotPoint struct {
	step        int64 // since the epoch; another one's value is out of date
	connections int64
	in, out     int64
	held, dial  time.Duration
}

// at is the place of an instant's step.
func (p *plot) at(now time.Time) *plotPoint {
	if p.ring == nil {
		p.ring = new([plotPoints]plotPoint)
	}
	step := now.Unix() / int64(plotStep/time.Second)
	point := &p.ring[step%plotPoints]
	if point.step != step {
		*point = plotPoint{step: step}
	}
	return point
}

// snapshot takes what a snapshot says of the tunnel. A counter that is lower than
// before has begun anew.
func (p *plot) snapshot(t *state.Tunnel, now time.Time) {
	in, out := t.BytesIn-p.in, t.BytesOut-p.out
	if in < 0 || out < 0 {
		in, out = t.BytesIn, t.BytesOut
	}
	p.in, p.out = t.BytesIn, t.BytesOut
	if p.ring == nil && t.Connections == 0 && in == 0 && out == 0 {
		return
	}
	point := p.at(now)
	point.connections = max(point.connections, t.Connections)
	point.in += in
	point.out += out
}

// connection takes a step of a connection's life. The longest wait and the longest
// dial of each step of the plot are kept: those are what people notice.
func (p *plot) connection(ev proxies.Event) {
	client := ev.Client.String()
	switch ev.Kind {
	case proxies.EventAccepted:
		if p.accepted == nil {
			p.accepted = make(map[string]time.Time)
		}
		p.accepted[client] = ev.At
	case proxies.EventConnected:
		point := p.at(ev.At)
		point.held = max(point.held, ev.Waited)
		if since, ok := p.accepted[client]; ok {
			point.dial = max(point.dial, ev.At.Sub(since)-ev.Waited)
		}
		delete(p.accepted, client)
	case proxies.EventRefused:
		point := p.at(ev.At)
		point.held = max(point.held, ev.Waited)
		delete(p.accepted, client)
	case proxies.EventClosed:
		delete(p.accepted, client)
	default: // takes no time of its own
	}
}

// points returns the last hour, the oldest first, from the first step with a client on.
func (p *plot) points(now time.Time) []state.PlotPoint {
	list := []state.PlotPoint{}
	if p.ring == nil {
		return list
	}
	last := now.Unix() / int64(plotStep/time.Second)
	for step := last - plotPoints + 1; step <= last; step++ {
		point := p.ring[step%plotPoints]
		if point.step != step {
			if len(list) == 0 {
				continue
			}
			point = plotPoint{step: step}
		}
		list = append(list, state.PlotPoint{
			At: time.Unix(step*int64(plotStep/time.Second), 0).UTC(), Span: state.Duration(plotStep), Connections: point.connections,
			BytesIn: point.in, BytesOut: point.out, Held: state.Duration(point.held), Dial: state.Duration(point.dial),
		})
	}
	return list
}
