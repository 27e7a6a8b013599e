package patterns

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"
)

// Main is the program that measures a backend: it takes one command a line from
// its standard input and prints one line when it is done. It ends with its input,
// and returns its exit code.
func Main(open Open) int {
	var cfg Config
	flag.StringVar(&cfg.Home, "home", "", "the `folder` with the login, TELEPORT_HOME")
	flag.StringVar(&cfg.TSH, "tsh", "tsh", "the `path` of tsh")
	flag.StringVar(&cfg.CAFile, "ca", "", "a `file` with the CAs of the proxy's web certificate")
	flag.DurationVar(&cfg.Poll, "poll", 5*time.Second, "how often to ask for changes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := drive(ctx, open, cfg, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// drive obeys the commands in.
func drive(ctx context.Context, open Open, cfg Config, in io.Reader, out io.Writer) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	b, err := open(ctx, cfg)
	if err != nil {
		cancel()
		return err
	}
	var watch sync.WaitGroup
	defer func() {
		cancel()
		watch.Wait()
		err = errors.Join(err, b.Close())
	}()
	for lines := bufio.NewScanner(in); lines.Scan(); {
		switch command := strings.TrimSpace(lines.Text()); command {
		case "ping":
			if err := b.Ping(ctx); err != nil {
				return err
			}
			fmt.Fprintln(out, "pong")
		case "databases":
			list, err := b.Databases(ctx)
			if err != nil {
				return err
			}
			fmt.Fprintln(out, "databases", len(list))
		case "watch":
			watch.Go(func() {
				err := b.WatchRequests(ctx, func(r Request) { fmt.Fprintln(out, "request", r.ID, r.State) })
				if ctx.Err() == nil {
					fmt.Fprintln(out, "ended:", err)
				}
			})
		default:
			return fmt.Errorf("unknown command %q", command)
		}
	}
	return nil
}
