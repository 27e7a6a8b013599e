package tunnel

import (
	"fmt"
	"time"

	"berth/agent/memory"
	"berth/agent/state"
)

// States draws every tunnel, in the order of the config.
func (s *Set) States() []state.Tunnel {
	list := make([]state.Tunnel, 0)
	for _, e := range s.listed() {
		list = append(list, e.draw(s.watchman.state(e.spec), s.cfg.Memory.ProtocolOf(e.spec.Cluster, e.spec.Resource)))
	}
	return list
}

// draw draws one tunnel. What is wrong with its port comes before what is wrong
// with its cert, since without the port no client gets that far. protocol is
// what the database was last known to speak, for a tunnel that cannot ask.
func (e entry) draw(guard state.Guard, protocol string) state.Tunnel {
	s := state.Tunnel{
		TunnelSpec: e.spec, Engine: state.EngineNative, State: state.TunnelConnecting, Guard: guard,
		Addresses: []string{fmt.Sprintf("127.0.0.1:%d", e.port)},
	}
	s.Port, s.Address = e.port, s.Addresses[0]
	if e.t == nil {
		s.Protocol = protocol
		if e.stopped {
			s.State = state.TunnelStopped
		}
		return s
	}
	px := e.t.px.Status()
	if len(px.Addresses) > 0 {
		s.Addresses = px.Addresses
		s.Address = px.Addresses[0]
	}
	s.StaleConnections = int64(px.Marked)
	s.Connections, s.Waiting, s.TotalConnections = int64(px.Connections), int64(px.Waiting), px.TotalConnections
	s.BytesIn, s.BytesOut = px.BytesIn, px.BytesOut
	s.LastErrorAt = state.Instant(px.LastErrorAt)
	if px.Waiting > 0 {
		s.WaitingSince, s.WaitingClient = state.Instant(px.OldestWait), e.t.history.OldestHeld()
	}
	name, at := e.t.foreign.last()
	s.ForeignUser, s.ForeignAt = name, state.Instant(at)
	e.t.draw(&s)
	if px.BindError != nil {
		s.State = state.TunnelPortInUse
		spec := e.spec
		spec.Port = e.port
		s.Problem = problemFor(px.BindError, spec, s.Profile, memory.Profile{})
		if s.Problem.Code != state.CodePortInUse {
			s.State = state.TunnelError
		}
	}
	return s
}

// draw fills in what the tunnel's last resolution and last dial say.
func (t *tunnel) draw(s *state.Tunnel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	res := t.status
	s.Profile, s.Protocol = res.profile, res.protocol
	s.Engine, s.EngineReason = res.engine, res.engineReason
	s.State, s.Problem = res.state, res.problem
	if t.cur.validAt(time.Now()) {
		s.CertValidUntil = state.Instant(t.cur.validUntil)
	}
	if t.dialErr != nil && res.state == state.TunnelReady {
		s.State = state.TunnelError
		s.Problem = problemFor(t.dialErr.err, t.spec, res.profile, memory.Profile{})
		s.Problem.Since = t.dialErr.at.UTC()
	}
}
