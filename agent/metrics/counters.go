package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"berth/agent/state"
	"berth/agent/tunnel"
)

// counters are what only events tell; prometheus.Collector of all of them.
type counters struct {
	dial, hold                 *prometheus.HistogramVec
	mint, login                prometheus.Histogram
	dialFailures, refusals     *prometheus.CounterVec
	mintFailures, loginResults *prometheus.CounterVec
	assumes                    prometheus.Counter
}

func newCounters() *counters {
	histogram := func(name, help string, buckets ...float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Namespace: "berth", Name: name, Help: help, Buckets: buckets}
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "berth", Name: name, Help: help}, labels)
	}
	c := &counters{
		dial: prometheus.NewHistogramVec(histogram("dial_seconds", "How long it took to open the way for a client.",
			.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20), []string{"tunnel"}),
		hold: prometheus.NewHistogramVec(histogram("hold_seconds", "How long clients were held until they got through.",
			.5, 1, 5, 15, 30, 60, 120, 300, 600), []string{"tunnel"}),
		mint: prometheus.NewHistogram(histogram("cert_renewal_seconds", "How long it took to fetch a tunnel's cert.",
			.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10)),
		login: prometheus.NewHistogram(histogram("login_seconds", "How long logins took that brought a session.",
			1, 2.5, 5, 10, 30, 60, 120, 300)),
		dialFailures: counter("dial_failures_total", "Ways for clients that could not be opened.", "tunnel"),
		refusals:     counter("refusals_total", "Clients that were refused, by the code of the reason.", "tunnel", "code"),
		mintFailures: counter("cert_renewal_failures_total", "Certs for tunnels that could not be fetched."),
		loginResults: counter("logins_total", "Logins that berth ran.", "result"),
		assumes:      prometheus.NewCounter(prometheus.CounterOpts{Namespace: "berth", Name: "assumes_total", Help: "Access requests whose roles were taken."}),
	}
	c.mintFailures.WithLabelValues()
	for _, result := range []string{"ok", "failed"} {
		c.loginResults.WithLabelValues(result)
	}
	return c
}

func (c *counters) all() []prometheus.Collector {
	return []prometheus.Collector{
		c.dial, c.hold, c.mint, c.login, c.dialFailures, c.refusals, c.mintFailures, c.loginResults, c.assumes,
	}
}

// Describe implements prometheus.Collector.
func (c *counters) Describe(ch chan<- *prometheus.Desc) {
	for _, one := range c.all() {
		one.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (c *counters) Collect(ch chan<- prometheus.Metric) {
	for _, one := range c.all() {
		one.Collect(ch)
	}
}

// Dialled implements tunnel.Meter, as the methods below do.
func (r *Room) Dialled(name string, took time.Duration, err error) {
	on := r.on.Load()
	switch {
	case on == nil:
	case err != nil:
		on.dialFailures.WithLabelValues(on.label("tunnel", name)).Inc()
	default:
		on.dial.WithLabelValues(on.label("tunnel", name)).Observe(took.Seconds())
	}
}

// Minted counts a cert.
func (r *Room) Minted(_ string, took time.Duration, err error) {
	on := r.on.Load()
	switch {
	case on == nil:
	case err != nil:
		on.mintFailures.WithLabelValues().Inc()
	default:
		on.mint.Observe(took.Seconds())
	}
}

// Served counts a client that got through.
func (r *Room) Served(t tunnel.Metered, held time.Duration) {
	if on := r.on.Load(); on != nil && held > 0 {
		on.hold.WithLabelValues(on.label("tunnel", t.Name)).Observe(held.Seconds())
	}
}

// Refused counts a client that did not.
func (r *Room) Refused(t tunnel.Metered, code state.Code) {
	if on := r.on.Load(); on != nil {
		on.refusals.WithLabelValues(on.label("tunnel", t.Name), string(code)).Inc()
	}
}

// LoggedIn counts a login.
func (r *Room) LoggedIn(took time.Duration, err error) {
	on := r.on.Load()
	switch {
	case on == nil:
	case err != nil:
		on.loginResults.WithLabelValues("failed").Inc()
	default:
		on.loginResults.WithLabelValues("ok").Inc()
		on.login.Observe(took.Seconds())
	}
}

// Assumed counts a request whose roles were taken.
func (r *Room) Assumed() {
	if on := r.on.Load(); on != nil {
		on.assumes.Inc()
	}
}
