package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// realFlow is what a large result, or a large import, cost the process in
// between.
type realFlow struct {
	rate  float64 // MB/s
	cpu   float64 // CPU seconds per GB
	calls float64 // reads and writes per GB
}

// realBytes moves a large result of PostgreSQL down, and an import up.
func (b *bench) realBytes(ctx context.Context, l *lab, rivals []rival) error {
	for _, k := range []struct {
		what       string
		move       func(context.Context, *lab, rival, int) (realFlow, error)
		size       int // MB
		cpu, calls float64
	}{
		{"down", b.copyOut, b.times(400, 40), 0.5, 60_000},
		{"up", b.copyIn, b.times(200, 20), 0.7, 60_000},
	} {
		got := make([][]realFlow, len(rivals))
		for round := range b.times(5, 1) {
			if err := b.calm(ctx); err != nil {
				return err
			}
			for i := range rivals {
				i = (i + round) % len(rivals)
				f, err := k.move(ctx, l, rivals[i], k.size)
				if err != nil {
					return fmt.Errorf("%s by %s: %w", k.what, rivals[i].name, err)
				}
				got[i] = append(got[i], f)
			}
		}
		var rates []string
		for i, v := range rivals {
			rates = append(rates, v.name+" "+spread(each(got[i], func(f realFlow) float64 { return f.rate }), "%.0f")+" MB/s")
		}
		cpu := func(f realFlow) float64 { return f.cpu }
		calls := func(f realFlow) float64 { return f.calls }
		of, called := ratios(got[0], got[1], cpu), median(each(got[0], calls))
		what := fmt.Sprintf("real cluster, %d MB %s: ", k.size, k.what)
		b.add(row{what: what + "time", measured: strings.Join(rates, ", ")}, row{
			what: what + "CPU-s/GB, berth ÷ tsh",
			measured: fmt.Sprintf("%s (berth %s, tsh %s)", spread(of, "%.2f"),
				spread(each(got[0], cpu), "%.2f"), spread(each(got[1], cpu), "%.2f")),
			budget: fmt.Sprintf("≤ %.1f", k.cpu), verdict: within(median(of), k.cpu),
		}, row{
			what: what + "reads and writes a GB", measured: fmt.Sprintf("berth %s, tsh %s",
				spread(each(got[0], calls), "%.0f"), spread(each(got[1], calls), "%.0f")),
			budget: fmt.Sprintf("≤ %.0f", k.calls), verdict: within(called, k.calls),
		})
	}
	return nil
}

// ratios divides the rounds of one run.
func ratios[T any](a, b []T, what func(T) float64) []float64 {
	var all []float64
	for i := range a {
		all = append(all, what(a[i])/what(b[i]))
	}
	return all
}

// metered counts what a process uses while move moves n bytes.
func metered(v rival, move func() (n int64, err error)) (f realFlow, err error) {
	read := func() (cpu time.Duration, calls int64) {
		if v.pid == 0 || err != nil {
			return 0, 0
		}
		if cpu, err = cpuOf(v.pid); err == nil {
			calls, err = callsOf(v.pid)
		}
		return cpu, calls
	}
	cpuFrom, callsFrom := read()
	began := time.Now()
	n, moveErr := move()
	took := time.Since(began)
	cpu, calls := read()
	gb := float64(n) / 1e9
	return realFlow{
		rate: gb * 1e3 / took.Seconds(), cpu: (cpu - cpuFrom).Seconds() / gb, calls: float64(calls-callsFrom) / gb,
	}, errors.Join(err, moveErr)
}

// copyOut has PostgreSQL send a large result.
func (b *bench) copyOut(ctx context.Context, l *lab, v rival, size int) (f realFlow, err error) {
	conn, err := l.connectPG(ctx, v.way)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	return metered(v, func() (int64, error) {
		var n counted
		_, err := conn.CopyTo(ctx, &n, fmt.Sprintf("copy (select repeat('x', 999) from generate_series(1, %d)) to stdout", size*1000))
		return int64(n), err
	})
}

// copyIn has PostgreSQL take a large import, of which it keeps nothing.
func (b *bench) copyIn(ctx context.Context, l *lab, v rival, size int) (f realFlow, err error) {
	conn, err := l.connectPG(ctx, v.way)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	if _, err := conn.Exec(ctx, "create temp table sink (line text)").ReadAll(); err != nil {
		return f, err
	}
	line := []byte(strings.Repeat("y", 999) + "\n")
	return metered(v, func() (int64, error) {
		n := int64(size) * 1e6
		_, err := conn.CopyFrom(ctx, io.LimitReader(&repeated{of: line}, n), "copy sink from stdin where false")
		return n, err
	})
}

// repeated reads the same again and again.
type repeated struct {
	of []byte
	at int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k := copy(p[n:], r.of[r.at:])
		r.at = (r.at + k) % len(r.of)
		n += k
	}
	return n, nil
}

// counted counts what is written to it.
type counted int64

// Write counts.
func (c *counted) Write(p []byte) (int, error) {
	*c += counted(len(p))
	return len(p), nil
}

var tpsLine = regexp.MustCompile(`tps = ([0-9.]+) \(without`)

// realBench has pgbench ask small questions.
func (b *bench) realBench(ctx context.Context, l *lab, rivals []rival) error {
	bench := func(v rival, args ...string) (string, error) {
		host, port, err := net.SplitHostPort(v.addr)
		if err != nil {
			return "", err
		}
		args = append(args, "-h", host, "-p", port, "-U", l.DBUser, l.DBName)
		out, err := exec.CommandContext(ctx, filepath.Join(l.PostgresBin, "pgbench"), args...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("pgbench by %s: %w\n%s", v.name, err, out)
		}
		return string(out), err
	}
	if _, err := bench(rivals[0], "-i", "-q"); err != nil {
		return err
	}
	got := make([][]float64, len(rivals))
	for round := range b.times(5, 1) {
		for i := range rivals {
			i = (i + round) % len(rivals)
			out, err := bench(rivals[i], "-S", "-n", "-c", "8", "-j", "8", "-T", strconv.Itoa(b.times(12, 4)))
			if err != nil {
				return err
			}
			found := tpsLine.FindStringSubmatch(out)
			if found == nil {
				return fmt.Errorf("pgbench by %s says no rate:\n%s", rivals[i].name, out)
			}
			tps, err := strconv.ParseFloat(found[1], 64)
			if err != nil {
				return err
			}
			got[i] = append(got[i], tps)
		}
	}
	of := ratios(got[0], got[1], func(f float64) float64 { return f })
	b.add(row{
		what: "real cluster, pgbench -S, 8 clients: berth ÷ tsh", measured: fmt.Sprintf("%s (berth %s, tsh %s a second)",
			spread(of, "%.2f"), spread(got[0], "%.0f"), spread(got[1], "%.0f")),
		budget: "≥ 1.1", verdict: atLeast(median(of), 1.1),
	})
	return nil
}

// realConnect measures a login to PostgreSQL.
func (b *bench) realConnect(ctx context.Context, l *lab, rivals []rival) error {
	took := make([][]float64, len(rivals))
	for range b.times(60, 5) {
		for i, v := range rivals {
			began := time.Now()
			conn, err := l.connectPG(ctx, v.way)
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			took[i] = append(took[i], 1e3*time.Since(began).Seconds())
			if err := conn.Close(ctx); err != nil {
				return err
			}
		}
	}
	var parts []string
	for i, v := range rivals {
		parts = append(parts, fmt.Sprintf("%s %.0f ms (p95 %.0f)", v.name, median(took[i]), quantile(took[i], 0.95)))
	}
	b.add(row{what: "real cluster, a login to PostgreSQL (p50)", measured: strings.Join(parts, ", ")})
	return nil
}
