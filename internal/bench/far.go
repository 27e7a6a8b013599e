package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"berth/internal/e2elab"
	"berth/internal/relay"
)

// distance is how far away the proxy is.
type distance struct {
	what  string
	delay time.Duration // half a round trip
	stall float64       // share of the pieces that come a second later
}

var distances = []distance{
	{"round trip 0", 0, 0},
	{"round trip 20 ms", 10 * time.Millisecond, 0},
	{"round trip 80 ms", 40 * time.Millisecond, 0},
	{"round trip 200 ms", 100 * time.Millisecond, 0},
	{"round trip 20 ms, 1 % of writes a second late", 10 * time.Millisecond, 0.01},
}

// far measures what a person far away waits for: a new connection and the
// answer to its first query.
func (b *bench) far(ctx context.Context) (err error) {
	if os.Getenv(e2elab.BinVar) == "" {
		b.say("  skipped: set %s to the folder that holds teleport, tsh and tctl", e2elab.BinVar)
		return nil
	}
	l, err := b.startLab(ctx, "TestLab")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	for i, d := range distances {
		if err := b.farRow(ctx, l, d, i); err != nil {
			return fmt.Errorf("%s: %w", d.what, err)
		}
	}
	return nil
}

func (b *bench) farRow(ctx context.Context, near *lab, d distance, i int) (err error) {
	r, err := relay.Start(relay.Config{To: near.Proxy, Delay: d.delay, Stall: d.stall, StallFor: time.Second})
	if err != nil {
		return err
	}
	defer r.Close()
	l := *near
	l.Proxy, l.Home = r.Addr(), filepath.Join(b.dir, "far-"+strconv.Itoa(i))
	if err := moveHome(near.Home, l.Home, near.Proxy, l.Proxy); err != nil {
		return err
	}
	a, err := b.startReal(ctx, &l, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	tsh, addr, err := l.startTSH(ctx)
	if err != nil {
		return err
	}
	defer func() {
		_ = tsh.Process.Kill()
		_ = tsh.Wait() // it was killed
	}()
	ways := []way{through(a.addr(0)), through(addr)}
	took := make([][]float64, len(ways))
	for range b.times(25, 3) {
		for i, w := range ways {
			began := time.Now()
			if err := l.selectOne(ctx, w); err != nil {
				return err
			}
			took[i] = append(took[i], 1e3*time.Since(began).Seconds())
		}
	}
	of := ratios(took[0], took[1], func(f float64) float64 { return f })
	line := row{
		what: "real cluster, " + d.what + ": connect and `select 1`, berth ÷ tsh",
		measured: fmt.Sprintf("%s (berth %.0f ms, p95 %.0f; tsh %.0f ms, p95 %.0f)", spread(of, "%.2f"),
			median(took[0]), quantile(took[0], 0.95), median(took[1]), quantile(took[1], 0.95)),
	}
	if d.delay == 40*time.Millisecond {
		line.budget, line.verdict = "≤ 0.6", within(median(of), 0.6)
	}
	b.add(line)
	return nil
}

// selectOne connects, asks for one row, and leaves.
func (l *lab) selectOne(ctx context.Context, w way) error {
	conn, err := l.connectPG(ctx, w)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "select 1").ReadAll()
	return errors.Join(err, conn.Close(ctx))
}

// moveHome copies a TELEPORT_HOME whose proxy has another address.
func moveHome(from, to, oldProxy, newProxy string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		name = filepath.Join(to, name)
		if e.IsDir() {
			return os.MkdirAll(name, 0o700)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.HasSuffix(name, ".yaml") {
			content = bytes.ReplaceAll(content, []byte(oldProxy), []byte(newProxy))
		}
		return os.WriteFile(name, content, 0o600)
	})
}
