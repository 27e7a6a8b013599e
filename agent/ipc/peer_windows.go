package ipc

import (
	"fmt"
	"net"

	"golang.org/x/sys/windows"
)

func selfUID() (string, error) {
	return sidOf(windows.GetCurrentProcessToken())
}

func sidOf(token windows.Token) (string, error) {
	user, err := token.GetTokenUser()
	if err != nil {
		return "", fmt.Errorf("read token user: %w", err)
	}
	return user.User.Sid.String(), nil
}

// peerOf returns the process that connected.
func peerOf(conn net.Conn) (Peer, error) {
	return pipePeer(conn, windows.GetNamedPipeClientProcessId)
}

// serverOf returns the process that listens.
func serverOf(conn net.Conn) (Peer, error) {
	return pipePeer(conn, windows.GetNamedPipeServerProcessId)
}

func pipePeer(conn net.Conn, ask func(windows.Handle, *uint32) error) (Peer, error) {
	pipe, ok := conn.(interface{ Fd() uintptr })
	if !ok {
		return Peer{}, fmt.Errorf("no peer process on a %T", conn)
	}
	var pid uint32
	if err := ask(windows.Handle(pipe.Fd()), &pid); err != nil {
		return Peer{}, fmt.Errorf("read peer process: %w", err)
	}
	p := Peer{PID: int(pid)}
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return p, fmt.Errorf("open peer process %d: %w", pid, err)
	}
	defer windows.CloseHandle(h) //nolint:errcheck // nothing depends on it any more
	var token windows.Token
	if err := windows.OpenProcessToken(h, windows.TOKEN_QUERY, &token); err != nil {
		return p, fmt.Errorf("open token of peer process %d: %w", pid, err)
	}
	defer token.Close()
	p.UID, err = sidOf(token)
	return p, err
}
