package config

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"

	"berth/internal/paths"
)

// Metrics says whether, where and how the agent says how it is.
type Metrics struct {
	// Enabled turns it on or off; nil means on where another key is set.
	Enabled *bool `json:"enabled,omitempty" jsonschema:"default=false"`
	// Listen is a loopback host:port, or the path of a Unix socket; empty means
	// berth's own socket.
	Listen string       `json:"listen,omitempty" jsonschema:"example=127.0.0.1:9090"`
	Labels metricLabels `json:"labels,omitempty" jsonschema:"enum=hashed,enum=names,default=hashed"`
	Pprof  bool         `json:"pprof,omitempty" jsonschema:"default=false"`
}

// metricLabels says what stands for tunnels and profiles in metrics.
type metricLabels string

const (
	labelsHashed metricLabels = "hashed"
	labelsNames  metricLabels = "names"
)

// On reports whether metrics are served.
func (m Metrics) On() bool {
	if m.Enabled == nil {
		return m.Listen != "" || m.Labels != "" || m.Pprof
	}
	return *m.Enabled
}

// Named reports whether metrics have the names of tunnels.
func (m Metrics) Named() bool { return m.Labels == labelsNames }

// Address is where metrics are served: a loopback host:port, or else the path of a
// socket; both are empty for berth's own.
func (m Metrics) Address() (tcp, socket string) {
	if isLoopback(m.Listen) {
		return m.Listen, ""
	}
	return "", expand(m.Listen)
}

// Port is the TCP port where metrics are served; 0 when it is a socket.
func (m Metrics) Port() int {
	tcp, _ := m.Address()
	_, port, _ := net.SplitHostPort(tcp)
	n, _ := strconv.Atoi(port) // 0 for none
	return n
}

// Same reports whether m means what o does.
func (m Metrics) Same(o Metrics) bool { return reflect.DeepEqual(m.plain(), o.plain()) }

// plain is m with what is left out filled in.
func (m Metrics) plain() Metrics {
	m.Enabled = new(m.On())
	if !m.Named() {
		m.Labels = labelsHashed
	}
	return m
}

// telemetry says whether berth counts for its user how it is used.
type telemetry struct {
	Mode telemetryMode `json:"mode,omitempty" jsonschema:"enum=off,enum=local,default=off"` // empty means telemetryOff
}

// telemetryMode says where what is counted goes.
type telemetryMode string

const (
	telemetryOff   telemetryMode = "off"
	telemetryLocal telemetryMode = "local"
)

// Local reports whether berth counts, into a file of this machine.
func (t telemetry) Local() bool { return t.Mode == telemetryLocal }

// isLoopback reports whether addr is the host:port of this machine alone.
func isLoopback(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.IsLoopback() {
		return false
	}
	n, err := strconv.Atoi(port)
	return err == nil && minPort <= n && n <= maxPort
}

// checkMetrics refuses an address that others than this machine's programs could
// reach, or that a tunnel has.
func checkMetrics(v *value, ports map[int64]*value, ms *mistakes) {
	listen := v.get("listen")
	s, ok := listen.str()
	if !ok || s == "" {
		return
	}
	if isLoopback(s) {
		_, port, _ := net.SplitHostPort(s)
		n, _ := strconv.ParseInt(port, 10, 64)
		if first := ports[n]; first != nil {
			mark(listen, "metrics.listen", ms, "port %d is used by the tunnel on line %d too", n, first.at.line)
		}
		return
	}
	if why := addressRefusal(s); why != "" {
		mark(listen, "metrics.listen", ms, "%s", why)
	}
}

// addressRefusal says why metrics cannot be served at s, which is no loopback address.
func addressRefusal(s string) string {
	const use = "write 127.0.0.1:9090, or the path of a socket"
	path := expand(s)
	info, err := os.Stat(path)
	switch {
	case !filepath.IsAbs(path):
		host, port, splitErr := net.SplitHostPort(s)
		ip, ipErr := netip.ParseAddr(host)
		n, numErr := strconv.Atoi(port)
		switch {
		case splitErr == nil && strings.EqualFold(host, "localhost"):
			return fmt.Sprintf("%s is a name, which others could have lead elsewhere: write %s", quote(s), net.JoinHostPort("127.0.0.1", port))
		case splitErr == nil && numErr == nil && ipErr == nil && ip.IsLoopback():
			return fmt.Sprintf("port %d cannot be: use one from %d to %d", n, minPort, maxPort)
		}
		return fmt.Sprintf("%s is neither an address of this machine alone nor a file: %s", quote(s), use)
	case err == nil && (info.Mode().IsRegular() || info.IsDir()):
		return quote(s) + " is there and is not a socket: write another path"
	case runtime.GOOS != "windows" && len(path) > paths.MaxSocket:
		return fmt.Sprintf("the path of a socket has at most %d bytes, and this one %d: write a shorter one", paths.MaxSocket, len(path))
	}
	return ""
}
