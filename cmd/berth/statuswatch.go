package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
)

// watchStatus prints the status at every change. A terminal is drawn in place.
func (a *app) watchStatus(ctx context.Context, c *client.Client, o statusOptions) error {
	if a.terminal && !o.json {
		return a.watchScreen(ctx, c, o)
	}
	first := true
	for s, err := range c.Watch(ctx) {
		if err != nil {
			return ignoreStop(ctx, err) // Ctrl-C is how a watch ends
		}
		if !first && !o.json {
			fmt.Fprintln(a.out)
		}
		first = false
		if err := a.printStatus(s, o); err != nil {
			return err
		}
	}
	return nil
}

const (
	// redrawEvery keeps times and rates right while nothing else changes.
	redrawEvery = time.Second
	// lookEvery is how often it is asked at most who is connected: the agent has to look
	// through the system's sockets.
	lookEvery = 5 * time.Second
	// wideEnough is how many columns there must be for the rates and the clients' names.
	wideEnough = 100
	// maxClients is how many columns the clients of a tunnel have.
	maxClients = 36
)

const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	toTop      = "\x1b[H"
	clearLine  = "\x1b[K"
	clearBelow = "\x1b[J"
)

// watchScreen draws the status over itself.
func (a *app) watchScreen(ctx context.Context, c *client.Client, o statusOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type news struct {
		snapshot state.Snapshot
		err      error
	}
	came := make(chan news)
	go func() {
		defer close(came)
		for s, err := range c.Watch(ctx) {
			select {
			case came <- news{s, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	fmt.Fprint(a.out, hideCursor+toTop+clearBelow)
	defer fmt.Fprint(a.out, showCursor)
	var s state.Snapshot
	seen, flow := false, newFlow()
	for {
		select {
		case n, ok := <-came:
			if !ok {
				return nil
			}
			if n.err != nil {
				return ignoreStop(ctx, n.err) // Ctrl-C is how a watch ends
			}
			s, seen = n.snapshot, true
			flow.note(s.Tunnels, time.Now())
		case <-tick.C:
			flow.note(s.Tunnels, time.Now())
		}
		if seen {
			if a.wide(o) {
				flow.look(ctx, c.TunnelClients, time.Now())
			}
			if err := a.drawStatus(s, o, flow); err != nil {
				return err
			}
		}
	}
}

// drawStatus draws the status from the top of the terminal, and no more lines than
// it has.
func (a *app) drawStatus(s state.Snapshot, o statusOptions, flow *flow) error {
	var b bytes.Buffer
	page := *a
	page.out = &b
	rows := 0
	if a.size != nil {
		_, rows = a.size()
	}
	var err error
	if a.wide(o) {
		err = page.printWhole(s, flow)
	} else {
		err = page.printStatus(s, o)
	}
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	if rows > 2 && len(lines) > rows-1 {
		hidden := len(lines) - (rows - 2)
		lines = append(lines[:rows-2], fmt.Sprintf("… %d more lines: make the window higher, or name a tunnel", hidden))
	}
	_, err = fmt.Fprint(a.out, toTop+strings.Join(lines, clearLine+"\n")+clearLine+"\n"+clearBelow)
	return err
}

// wide reports whether there is room for rates and clients.
func (a *app) wide(o statusOptions) bool {
	if o.name != "" || a.size == nil {
		return false
	}
	columns, _ := a.size()
	return columns >= wideEnough
}

// rate is how many bytes a tunnel carries per second.
type rate struct{ inward, outward float64 }

func (r rate) in() string  { return perSecond(r.inward) }
func (r rate) out() string { return perSecond(r.outward) }

func perSecond(bytes float64) string {
	if bytes < 1 {
		return "-"
	}
	return size(int64(bytes))
}

// flow is what a watch knows besides the snapshot: rates, made of the counters of one look
// and the next, a second later, and who is connected.
type flow struct {
	at    time.Time
	last  map[string]state.Tunnel
	rates map[string]rate

	looked  time.Time
	turn    string // of the connections at that look
	clients map[string][]state.TunnelClient
}

func newFlow() *flow { return &flow{rates: make(map[string]rate)} }

// look asks who is connected, if connections have come or gone since the last look.
func (f *flow) look(ctx context.Context, ask func(context.Context) ([]state.TunnelClient, error), now time.Time) {
	var turn strings.Builder
	for _, name := range slices.Sorted(maps.Keys(f.last)) {
		if t := f.last[name]; t.Connections > 0 {
			fmt.Fprintln(&turn, name, t.Connections, t.TotalConnections)
		}
	}
	if turn.String() == f.turn || now.Sub(f.looked) < lookEvery {
		return
	}
	f.looked, f.turn, f.clients = now, turn.String(), nil
	if f.turn == "" {
		return
	}
	// The numbers of connections are there all the same.
	if all, err := ask(ctx); err == nil {
		f.clients = make(map[string][]state.TunnelClient)
		for _, each := range all {
			f.clients[each.Tunnel] = append(f.clients[each.Tunnel], each)
		}
	}
}

// connections counts a tunnel's, and names whose they are.
func (f *flow) connections(t state.Tunnel) string {
	who := make([]string, 0, len(f.clients[t.Name]))
	for _, each := range f.clients[t.Name] {
		who = append(who, strings.TrimSpace(fmt.Sprintf("%s %d", each.Program, each.PID)))
	}
	if t.Connections == 0 || len(who) == 0 {
		return fmt.Sprint(t.Connections)
	}
	return fmt.Sprintf("%d: %s", t.Connections, plain.Short(strings.Join(who, ", "), maxClients))
}

// note takes the counters as they are now. Looks that come sooner than redrawEvery
// make no new rates.
func (f *flow) note(tunnels []state.Tunnel, now time.Time) {
	past := now.Sub(f.at)
	if f.last != nil && past < redrawEvery {
		return
	}
	rates, last := make(map[string]rate), make(map[string]state.Tunnel)
	for _, t := range tunnels {
		last[t.Name] = t
		if was, ok := f.last[t.Name]; ok && t.BytesIn >= was.BytesIn && t.BytesOut >= was.BytesOut {
			rates[t.Name] = rate{float64(t.BytesIn-was.BytesIn) / past.Seconds(), float64(t.BytesOut-was.BytesOut) / past.Seconds()}
		}
	}
	f.at, f.last, f.rates = now, last, rates
}
