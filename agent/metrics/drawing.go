package metrics

import (
	"cmp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"berth/agent/state"
)

// drawing is what is at one moment, as metrics.
type drawing struct {
	cfg      Config
	label    func(sort, name string) string
	now      time.Time
	ready    []state.Readiness
	snapshot *state.Snapshot
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("berth_"+name, help, labels, nil)
}

var (
	descInfo        = desc("info", "Which berth runs.", "version")
	descStarted     = desc("start_time_seconds", "When the agent started, in Unix time.")
	descTunnels     = desc("tunnels", "Tunnels, by state.", "state")
	descReady       = desc("tunnel_ready", "Whether a client that connects now gets through, as a try of the last 30 seconds found.", "tunnel", "protocol")
	descConnections = desc("connections", "Open connections of clients.", "tunnel")
	descWaiting     = desc("connections_waiting", "Those of them that wait for a login or a PIN.", "tunnel")
	descDraining    = desc("connections_draining", "Open connections that the agents before this one still serve.")
	descTotal       = desc("connections_total", "Connections of clients since the agent started.", "tunnel")
	descReceived    = desc("received_bytes_total", "Bytes from the resource to clients.", "tunnel")
	descSent        = desc("sent_bytes_total", "Bytes from clients to the resource.", "tunnel")
	descCert        = desc("cert_remaining_seconds", "How long a tunnel's cert is still valid.", "tunnel")
	descSession     = desc("session_remaining_seconds", "How long a session is still valid; 0 when there is none.", "profile")
	descRequests    = desc("requests", "Access requests that are listed, by state.", "state")
	descProblems    = desc("problems", "What is wrong now, by code.", "code")
)

// Describe implements prometheus.Collector.
func (d *drawing) Describe(ch chan<- *prometheus.Desc) {
	for _, one := range []*prometheus.Desc{
		descInfo, descStarted, descTunnels, descReady, descConnections, descWaiting, descDraining, descTotal, descReceived, descSent,
		descCert, descSession, descRequests, descProblems,
	} {
		ch <- one
	}
}

// Collect implements prometheus.Collector.
func (d *drawing) Collect(ch chan<- prometheus.Metric) {
	gauge := func(of *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(of, prometheus.GaugeValue, v, labels...)
	}
	counter := func(of *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(of, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(descInfo, 1, d.cfg.Version)
	gauge(descStarted, float64(d.cfg.Started.UnixMilli())/1000)
	gauge(descDraining, float64(d.snapshot.Agent.Draining))
	d.collectTunnels(gauge, counter)
	sessions := make(map[string]float64) // two homes may have one profile
	for _, p := range d.snapshot.Profiles {
		name := d.label("profile", p.User+"@"+p.Proxy)
		sessions[name] = max(sessions[name], d.remaining(p.ValidUntil))
	}
	for name, left := range sessions {
		gauge(descSession, left, name)
	}
	requests := make(map[string]int)
	for _, r := range d.snapshot.Requests {
		requests[string(r.State)]++
	}
	for s, n := range requests {
		gauge(descRequests, float64(n), s)
	}
	problems := make(map[string]int)
	for _, p := range d.snapshot.Problems {
		problems[string(p.Code)]++
	}
	for code, n := range problems {
		gauge(descProblems, float64(n), code)
	}
}

func (d *drawing) collectTunnels(gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, int64, ...string)) {
	states := map[state.TunnelState]int{
		state.TunnelReady: 0, state.TunnelConnecting: 0, state.TunnelWaitingForLogin: 0, state.TunnelPortInUse: 0,
		state.TunnelError: 0, state.TunnelStopped: 0,
	}
	kinds := make(map[string]state.Kind)
	for _, t := range d.snapshot.Tunnels {
		kinds[t.Name] = t.Kind
	}
	tried := make(map[string]state.TunnelState)
	for _, r := range d.ready {
		r.Protocol = cmp.Or(strings.ToLower(kinds[r.Name].Info().Protocol), r.Protocol)
		tried[r.Name] = r.State
		gauge(descReady, map[bool]float64{true: 1}[r.Ready], d.label("tunnel", r.Name), r.Protocol)
	}
	for _, t := range d.snapshot.Tunnels {
		name := d.label("tunnel", t.Name)
		if is, ok := tried[t.Name]; ok {
			t.State = is
		}
		states[t.State]++
		gauge(descConnections, float64(t.Connections), name)
		gauge(descWaiting, float64(t.Waiting), name)
		counter(descTotal, t.TotalConnections, name)
		counter(descReceived, t.BytesIn, name)
		counter(descSent, t.BytesOut, name)
		gauge(descCert, d.remaining(t.CertValidUntil), name)
	}
	for s, n := range states {
		gauge(descTunnels, float64(n), string(s))
	}
}

// remaining is how long something is valid, in seconds.
func (d *drawing) remaining(until *time.Time) float64 {
	if until == nil {
		return 0
	}
	return max(0, until.Sub(d.now).Seconds())
}
