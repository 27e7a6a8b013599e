package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"berth/agent/ipc"
	"berth/internal/paths"
	"berth/internal/wake"
)

const (
	bellWait = 3 * time.Second       // for the running tray to hear a second one
	bellStep = 50 * time.Millisecond // between attempts: it may just be starting
)

// bell is how the running tray learns that a second one was started. The
// connection itself is the whole message.
type bell struct {
	rung     chan struct{} // capacity 1: two rings mean the same as one
	listener net.Listener
	ended    sync.WaitGroup
}

// hangBell listens at address. The caller holds the tray's lock.
func hangBell(address string, log *slog.Logger) (*bell, error) {
	ln, err := ipc.Listen(address)
	if err != nil {
		return nil, err
	}
	b := &bell{rung: make(chan struct{}, 1), listener: ln}
	b.ended.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					log.Warn("a second tray cannot have this one show itself any more", "err", err)
				}
				return
			}
			select {
			case b.rung <- struct{}{}:
			default: // it will show itself anyway
			}
			_ = conn.Close() // which is the answer
		}
	})
	return b, nil
}

func (b *bell) close() {
	_ = b.listener.Close()
	b.ended.Wait()
}

// ringBell has the tray at address show itself, and waits until it has heard.
func ringBell(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, bellWait)
	defer cancel()
	conn, err := ipc.Dial(ctx, address)
	for errors.Is(err, ipc.ErrNotRunning) && wake.Sleep(ctx, bellStep) {
		conn, err = ipc.Dial(ctx, address)
	}
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing was written
	if err := conn.SetReadDeadline(time.Now().Add(bellWait)); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("wait for its answer: %w", err)
	}
	return nil
}

// callTray has the tray that runs show itself.
func (a *app) callTray(ctx context.Context, p paths.Paths) error {
	if err := ringBell(ctx, p.TraySocket()); err != nil {
		return withHint(errors.New("a tray is running already, and does not answer"),
			"look for its icon; if there is none, end that process and try again")
	}
	_, err := fmt.Fprintln(a.out, "a tray is running already: it shows how things are")
	return err
}
