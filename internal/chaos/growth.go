//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// measure looks at the newest agent.
func (w *world) measure(ctx context.Context) (size, error) {
	s := size{At: time.Now(), PID: w.agent.MainPID()}
	proc := "/proc/" + strconv.Itoa(s.PID)
	fds, err := os.ReadDir(proc + "/fd")
	if err != nil {
		return s, err
	}
	s.Descriptors = float64(len(fds))
	status, err := os.ReadFile(proc + "/status")
	if err != nil {
		return s, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				return s, err
			}
			s.RSS = kb * 1024 / 1e6
		}
	}
	s.Goroutines, err = w.goroutines(ctx)
	return s, err
}

// goroutines asks the agent itself.
func (w *world) goroutines(ctx context.Context) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	socket := filepath.Join(filepath.Dir(w.paths.Socket), "metrics.sock")
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://berth/debug/pprof/goroutine?debug=1", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	n := 0.0
	if _, err := fmt.Sscanf(string(text), "goroutine profile: total %g", &n); err != nil {
		return 0, fmt.Errorf("the goroutine profile begins %.60q", text)
	}
	return n, nil
}
