package route

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v4/process"

	"berth/proxies/internal/nettest"
)

// BenchmarkThroughput compares a stream through a tunnel with the same TLS
// stream without the local hop. The proxy is another process; a client of the
// tunnel shares this one. "-ping" is framed, as all of Teleport's is.
func BenchmarkThroughput(b *testing.B) {
	for _, alpn := range []string{"plain", "bench"} { // bench is agreed on as bench-ping
		for _, cmd := range []byte{cmdDownload, cmdUpload} {
			for _, way := range []string{"direct", "tunnel"} {
				name := fmt.Sprintf("%s/%c/%s", alpn, cmd, way)
				b.Run(name, func(b *testing.B) { benchThroughput(b, alpn, cmd, way == "tunnel") })
			}
		}
	}
}

func benchThroughput(b *testing.B, alpn string, cmd byte, tunnel bool) {
	const chunk = 1 << 20
	route := startProxy(b, alpn)
	var c net.Conn
	if tunnel {
		c = run(b, route.Dial).connect(b)
		_ = c.SetDeadline(time.Time{})
	} else {
		c = dialRoute(b, route)
		_ = c.SetDeadline(time.Time{})
	}
	if _, err := c.Write([]byte{cmd}); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	move := func(n int) {
		for n > 0 {
			var k int
			var err error
			if cmd == cmdDownload {
				k, err = c.Read(buf[:min(n, len(buf))])
			} else {
				k, err = c.Write(buf[:min(n, len(buf))])
			}
			if err != nil {
				b.Fatal(err)
			}
			n -= k
		}
	}
	move(16 * chunk) // let windows open
	b.SetBytes(chunk)
	cpu := cpuTime(b)
	for b.Loop() {
		move(chunk)
	}
	moved := float64(b.N) * chunk / 1e9
	b.ReportMetric((cpuTime(b)-cpu)/moved, "cpu-s/GB")
	c.Close()
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) float64 {
	b.Helper()
	times, err := self(b).Times()
	if err != nil {
		b.Fatal(err)
	}
	return times.User + times.System
}

func self(b testing.TB) *process.Process {
	b.Helper()
	p, err := process.NewProcess(int32(os.Getpid()))
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// BenchmarkConnect is what a connection costs from the client's dial to the
// first answer: through a tunnel, and dialled directly.
func BenchmarkConnect(b *testing.B) {
	route := startProxy(b, "bench")
	b.Run("direct", func(b *testing.B) {
		for b.Loop() {
			c, err := route.Dial(b.Context())
			if err == nil {
				err = tryRoundTripAfter(c, cmdEcho, "hello")
			}
			if err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
	})
	b.Run("tunnel", func(b *testing.B) {
		r := run(b, route.Dial)
		for b.Loop() {
			c, err := net.Dial("tcp", r.addr())
			if err == nil {
				err = tryRoundTripAfter(c, cmdEcho, "hello")
			}
			if err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
	})
	b.Run("tunnel_without_TLS", func(b *testing.B) { // the tunnel's own share
		up := nettest.Serve(b, nettest.Echo)
		r := run(b, up.Dial)
		for b.Loop() {
			c, err := net.Dial("tcp", r.addr())
			if err == nil {
				err = nettest.TryRoundTrip(c, "hello")
			}
			if err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
	})
	b.Run("no_tunnel_without_TLS", func(b *testing.B) {
		up := nettest.Serve(b, nettest.Echo)
		for b.Loop() {
			c, err := up.Dial(b.Context())
			if err == nil {
				err = nettest.TryRoundTrip(c, "hello")
			}
			if err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
	})
}

// BenchmarkOpenConnections measures what idle connections keep: all of the
// process's memory that came with them, TLS included; also when the last thing
// that came was as much as fits.
func BenchmarkOpenConnections(b *testing.B) {
	for _, bb := range []struct {
		name string
		want int
		cmd  byte
	}{
		{"1000", 1000, cmdEcho},
		{"10000", 10_000, cmdEcho},
		{"1000_after_a_burst", 1000, cmdBurst},
	} {
		b.Run(bb.name, func(b *testing.B) {
			want := bb.want
			n := min(want, (fileLimit()-200)/2) // two descriptors each
			if n < want {
				b.Logf("this machine's limit of open files allows %d", n)
			}
			for b.Loop() {
				benchOpenConnections(b, n, bb.cmd)
			}
		})
	}
}

func benchOpenConnections(b *testing.B, n int, cmd byte) {
	route := startProxy(b, "bench")
	r := run(b, route.Dial)
	before, heapBefore := memory(b)
	clients := startChild(b, "clients", fmt.Sprintf("%s=%s %d %c", clientEnv, r.addr(), n, cmd))
	began := time.Now()
	if s := clients.line(b); s != "ready" {
		b.Fatal(s)
	}
	took := time.Since(began)
	after, heapAfter := memory(b)
	if s := r.Status(); s.Connections != n {
		b.Fatalf("%d connections are open, want %d", s.Connections, n)
	}
	b.ReportMetric(float64(n), "conns")
	b.ReportMetric(float64(after-before)/float64(n), "rss-B/conn")
	b.ReportMetric(float64(heapAfter-heapBefore)/float64(n), "go-B/conn")
	b.ReportMetric(float64(n)/took.Seconds(), "conns/s")
	b.ReportMetric(0, "ns/op")
	r.CloseConnections()
	r.stop()
}

// memory returns the resident size, and what Go has in use of it.
func memory(b *testing.B) (rss, inUse int64) {
	b.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	info, err := self(b).MemoryInfo()
	if err != nil {
		b.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(info.RSS), int64(m.HeapInuse + m.StackInuse)
}

// BenchmarkRoundTrip is a small question and its answer on an open connection.
func BenchmarkRoundTrip(b *testing.B) {
	for _, alpn := range []string{"plain", "bench"} {
		for _, way := range []string{"direct", "tunnel"} {
			b.Run(alpn+"/"+way, func(b *testing.B) {
				route := startProxy(b, alpn)
				c := net.Conn(nil)
				if way == "tunnel" {
					c = run(b, route.Dial).connect(b)
				} else {
					c = dialRoute(b, route)
				}
				_ = c.SetDeadline(time.Time{})
				if err := tryRoundTripAfter(c, cmdEcho, "select 1"); err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					if err := nettest.TryRoundTrip(c, "select 1"); err != nil {
						b.Fatal(err)
					}
				}
				c.Close()
			})
		}
	}
}
