package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// flow is how bytes moved for a while.
type flow struct {
	rate   float64 // MB/s
	cpuAll float64 // CPU seconds per GB of all processes: cluster, client, agent
	cpuOwn float64 // of the agent alone; 0 without one
	core   float64 // share of a core the agent used
}

// flowPair is the same stream without and with the tunnel, one after the other.
type flowPair struct{ direct, tunnel flow }

// streamKind is a kind of stream.
type streamKind struct {
	what  string
	cmd   []byte
	conns int
	least string // the budget of tunnel to direct
}

// paced is a stream down at the pace of a network, in MB/s.
func paced(what string, rate uint16) streamKind {
	return streamKind{what, binary.BigEndian.AppendUint16([]byte{cmdPaced}, rate), 1, "≥ 0.95"}
}

func (b *bench) stream(ctx context.Context) (err error) {
	a, err := b.readyAgent(ctx, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	for _, k := range []streamKind{
		{"down, 1 connection", []byte{cmdDown}, 1, "≥ 0.95"},
		{"up, 1 connection", []byte{cmdUp}, 1, "≥ 0.95"},
		{"down, 8 connections", []byte{cmdDown}, 8, "≥ 0.95"},
		{"up, 8 connections", []byte{cmdUp}, 8, "≥ 0.95"},
		paced("down at 1 Gbit/s", 125),
		paced("down at 4 Gbit/s", 500),
	} {
		got, err := collect(b.times(7, 1), func(round int) (flowPair, error) { return b.streamPair(ctx, a, k, round) })
		if err != nil {
			return fmt.Errorf("%s: %w", k.what, err)
		}
		b.add(k.rows(got)...)
	}
	return nil
}

// rows are the medians of all pairs. The ratio is that of each pair, since
// what disturbs one disturbs the other.
func (k streamKind) rows(got []flowPair) []row {
	rate := func(of func(flowPair) flow, what func(flow) float64) float64 {
		return median(each(got, func(p flowPair) float64 { return what(of(p)) }))
	}
	direct := func(p flowPair) flow { return p.direct }
	tunnel := func(p flowPair) flow { return p.tunnel }
	mbs := func(f flow) float64 { return f.rate }
	all := func(f flow) float64 { return f.cpuAll }
	ratio := median(each(got, func(p flowPair) float64 { return p.tunnel.rate / p.direct.rate }))
	return []row{
		{
			what:     "stream " + k.what + ": tunnel ÷ direct",
			measured: fmt.Sprintf("%.2f (%.0f ÷ %.0f MB/s)", ratio, rate(tunnel, mbs), rate(direct, mbs)),
			budget:   k.least, verdict: atLeast(ratio, 0.95),
		},
		{
			what: "stream " + k.what + ": CPU",
			measured: fmt.Sprintf("agent %.2f CPU-s/GB (%.0f %% of a core); client and cluster and agent %.2f, without tunnel %.2f",
				rate(tunnel, func(f flow) float64 { return f.cpuOwn }), 100*rate(tunnel, func(f flow) float64 { return f.core }),
				rate(tunnel, all), rate(direct, all)),
		},
	}
}

// streamPair measures both ways, in turns which one first.
func (b *bench) streamPair(ctx context.Context, a *agent, k streamKind, round int) (flowPair, error) {
	if err := b.calm(ctx); err != nil {
		return flowPair{}, err
	}
	var p flowPair
	direct := func() (err error) {
		p.direct, err = b.flow(ctx, b.without(), k, self())
		return err
	}
	tunnel := func() (err error) {
		p.tunnel, err = b.flow(ctx, through(a.addr(0)), k, self(), a.pid())
		return err
	}
	if round%2 == 1 {
		direct, tunnel = tunnel, direct
	}
	return p, errors.Join(direct(), tunnel())
}

// flow streams for a while and counts where the bytes arrive. The processes
// are the runner and, if there is one, the agent.
func (b *bench) flow(ctx context.Context, w way, k streamKind, pids ...int) (flow, error) {
	s, err := b.openStreams(ctx, w, k)
	if err != nil {
		return flow{}, err
	}
	defer s.close()
	if err := pause(ctx, b.span(500*time.Millisecond, 200*time.Millisecond)); err != nil { // let windows open
		return flow{}, err
	}
	from, err := s.reading(pids)
	if err != nil {
		return flow{}, err
	}
	if err := pause(ctx, b.span(3*time.Second, 500*time.Millisecond)); err != nil {
		return flow{}, err
	}
	to, err := s.reading(pids)
	if err != nil {
		return flow{}, err
	}
	return to.since(from), nil
}

// reading is what clocks and counters say at one moment.
type reading struct {
	at    time.Time
	bytes int64
	cpu   []time.Duration // the runner's and the agent's
}

func (r reading) since(from reading) flow {
	took := r.at.Sub(from.at).Seconds()
	bytes := float64(r.bytes - from.bytes)
	f := flow{rate: bytes / 1e6 / took}
	for i := range r.cpu {
		used := (r.cpu[i] - from.cpu[i]).Seconds()
		f.cpuAll += used / (bytes / 1e9)
		if i > 0 {
			f.cpuOwn += used / (bytes / 1e9)
			f.core += used / took
		}
	}
	return f
}

// streams are connections that all move bytes one way.
type streams struct {
	conns   []net.Conn
	arrived *atomic.Int64
	wg      sync.WaitGroup
}

func (b *bench) openStreams(ctx context.Context, w way, k streamKind) (*streams, error) {
	s := &streams{arrived: new(atomic.Int64)}
	if k.cmd[0] == cmdUp {
		s.arrived = &b.backend.received
	}
	for range k.conns {
		conn, err := ask(ctx, w, k.cmd...)
		if err != nil {
			s.close()
			return nil, err
		}
		s.conns = append(s.conns, conn)
		s.wg.Go(func() {
			if k.cmd[0] == cmdUp {
				_ = send(conn, 0) // ends when conn is closed
				return
			}
			count(conn, s.arrived)
		})
	}
	return s, nil
}

// count reads and counts until the end.
func count(conn io.Reader, n *atomic.Int64) {
	buf := make([]byte, 64<<10)
	for {
		k, err := conn.Read(buf)
		n.Add(int64(k))
		if err != nil {
			return
		}
	}
}

func (s *streams) reading(pids []int) (reading, error) {
	r := reading{at: time.Now(), bytes: s.arrived.Load()}
	for _, pid := range pids {
		d, err := cpuOf(pid)
		if err != nil {
			return r, fmt.Errorf("CPU time of process %d: %w", pid, err)
		}
		r.cpu = append(r.cpu, d)
	}
	return r, nil
}

func (s *streams) close() {
	for _, conn := range s.conns {
		_ = conn.Close() // it was to be cut
	}
	s.wg.Wait()
}
