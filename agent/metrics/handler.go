package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"berth/agent/state"
	"berth/agent/tunnel"
)

const (
	// checkTime bounds what waits for tunnels to be tried: shorter than the patience
	// of those who ask.
	checkTime = 8 * time.Second
	// profileMax is how long a profile may take, and profileTime how long it does.
	profileMax  = 2 * time.Minute
	profileTime = 30 * time.Second
)

// handler answers with one config.
type handler struct {
	*serving
	room *Room
	tcp  bool
}

// ServeHTTP answers a request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case h.tcp && !isOurs(r):
		http.Error(w, "this is answered to programs of this machine that ask for it by its address", http.StatusForbidden)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
	default:
		h.route(w, r)
	}
}

func (h *handler) route(w http.ResponseWriter, r *http.Request) {
	name, one := strings.CutPrefix(r.URL.Path, "/readyz/")
	profile, profiles := strings.CutPrefix(r.URL.Path, "/debug/pprof/")
	switch {
	case r.URL.Path == "/livez":
		answer(w, h.room.cfg.Alive(), nil)
	case r.URL.Path == "/readyz":
		h.allReady(w, r)
	case one:
		h.oneReady(w, r, name)
	case r.URL.Path == "/metrics":
		h.metrics(w, r)
	case profiles && h.set.Pprof:
		profileOf(w, r, profile)
	default:
		http.Error(w, "there are /livez, /readyz, /readyz/NAME and /metrics", http.StatusNotFound)
	}
}

// answer says yes or no, and why.
func answer(w http.ResponseWriter, err error, lines []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		lines = append([]string{"not ok: " + err.Error()}, lines...)
	} else {
		lines = append([]string{"ok"}, lines...)
	}
	_, _ = fmt.Fprintln(w, strings.Join(lines, "\n")) // whoever asked may have left
}

func (h *handler) oneReady(w http.ResponseWriter, r *http.Request, name string) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTime)
	defer cancel()
	list := h.room.cfg.Check(ctx, 0, name)
	if len(list) == 0 {
		http.Error(w, "there is no such tunnel", http.StatusNotFound)
		return
	}
	if list[0].Ready {
		answer(w, nil, nil)
		return
	}
	answer(w, errors.New(short(list[0])), nil)
}

// allReady says yes when every tunnel that was not stopped is ready.
func (h *handler) allReady(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTime)
	defer cancel()
	list := h.room.cfg.Check(ctx, 0)
	var lines []string
	for _, t := range list {
		if !t.Ready {
			lines = append(lines, h.label("tunnel", t.Name)+": "+short(t))
		}
	}
	var err error
	if len(lines) > 0 {
		err = fmt.Errorf("%d of %d tunnels are not ready", len(lines), len(list))
	}
	answer(w, err, lines)
}

// short says how a tunnel is, without a name in it.
func short(r state.Readiness) string {
	if r.Code == "" {
		return string(r.State)
	}
	return fmt.Sprintf("%s (%s)", r.State, r.Code)
}

// metrics gathers everything anew: what was counted, and what is.
func (h *handler) metrics(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTime)
	defer cancel()
	drawn := &drawing{
		label: h.label, cfg: h.room.cfg, now: time.Now(),
		ready: h.room.cfg.Check(ctx, tunnel.ProbeFresh), snapshot: h.room.cfg.Snapshot(),
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(h.counters, drawn)
	families, err := reg.Gather()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	w.Header().Set("Content-Type", string(format))
	enc := expfmt.NewEncoder(w, format)
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return // whoever asked has left
		}
	}
}

// profileOf serves what Go's own tools read. Package net/http/pprof would put its
// pages into the server that every package of a program shares.
func profileOf(w http.ResponseWriter, r *http.Request, name string) {
	length := profileTime
	if s := r.FormValue("seconds"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || time.Duration(n)*time.Second > profileMax {
			http.Error(w, "seconds is a number from 1 to 120", http.StatusBadRequest)
			return
		}
		length = time.Duration(n) * time.Second
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	var start func() error
	var stop func()
	switch name {
	case "profile":
		start, stop = func() error { return pprof.StartCPUProfile(w) }, pprof.StopCPUProfile
	case "trace":
		start, stop = func() error { return trace.Start(w) }, trace.Stop
	default:
		known := []string{"allocs", "block", "goroutine", "heap", "mutex", "threadcreate"}
		if !slices.Contains(known, name) {
			http.Error(w, "there are profile, trace, "+strings.Join(known, ", "), http.StatusNotFound)
			return
		}
		debug, _ := strconv.Atoi(r.FormValue("debug")) // 0, the form that tools read, for whatever is no number
		_ = pprof.Lookup(name).WriteTo(w, debug)       // whoever asked may have left
		return
	}
	if err := start(); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	defer stop()
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
}
