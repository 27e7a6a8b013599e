package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// readiness learns when an agent has bound its ports: from the agent, by the
// datagram a service manager gets, or where there is none by knocking.
type readiness struct {
	path string
	conn *net.UnixConn // nil on Windows
}

func listenReady(dir string) (*readiness, error) {
	if runtime.GOOS == "windows" {
		return &readiness{}, nil
	}
	path := filepath.Join(dir, "ready")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	return &readiness{path: path, conn: conn}, nil
}

func (r *readiness) env() []string {
	if r.conn == nil {
		return nil
	}
	return []string{"NOTIFY_SOCKET=" + r.path}
}

func (r *readiness) close() {
	if r.conn != nil {
		_ = r.conn.Close() // nothing more is expected of it
	}
}

// await waits until the agent is ready, unless it exits first.
func (r *readiness) await(ctx context.Context, ports []int, exited chan error) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	ready := make(chan error, 1)
	go func() {
		if r.conn == nil {
			ready <- knock(ctx, ports)
			return
		}
		ready <- r.ready()
	}()
	select {
	case err := <-ready:
		return err
	case err := <-exited:
		exited <- err
		return fmt.Errorf("it exited: %w", err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ready returns when the agent has said that it is ready.
func (r *readiness) ready() error {
	buf := make([]byte, 1024)
	for {
		n, err := r.conn.Read(buf)
		if err != nil {
			return err
		}
		if isReady(string(buf[:n])) {
			return nil
		}
	}
}

// isReady reports whether a message to a service manager says "ready".
func isReady(message string) bool {
	for line := range strings.Lines(message) {
		if strings.TrimSpace(line) == "READY=1" {
			return true
		}
	}
	return false
}

// knock returns when every port can be connected to.
func knock(ctx context.Context, ports []int) error {
	for _, port := range ports {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		for {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			if err == nil {
				if err := conn.Close(); err != nil {
					return err
				}
				break
			}
			if perr := pause(ctx, time.Millisecond); perr != nil {
				return errors.Join(err, perr)
			}
		}
	}
	return nil
}
