//go:build unix

package ipc

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
)

func selfUID() (string, error) { return strconv.Itoa(os.Geteuid()), nil }

// peerOf returns the process that connected.
func peerOf(conn net.Conn) (Peer, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return Peer{}, fmt.Errorf("no peer credentials on a %T", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("read peer credentials: %w", err)
	}
	var p Peer
	var sysErr error
	err = raw.Control(func(fd uintptr) { p, sysErr = peerOfFD(int(fd)) })
	if err == nil {
		err = sysErr
	}
	if err != nil {
		return Peer{}, fmt.Errorf("read peer credentials: %w", err)
	}
	return p, nil
}

// serverOf returns the process that listens: the same question on Unix.
func serverOf(conn net.Conn) (Peer, error) { return peerOf(conn) }
