package main

import (
	"net"
	"runtime"
)

// notifyReady tells a service manager that started the agent with
// Type=notify that it is ready: the ports are bound. The protocol is
// sd_notify(3): one datagram to the socket named in the environment. Windows
// has neither such managers nor such sockets.
func notifyReady(socket string) {
	if socket == "" || runtime.GOOS == "windows" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return // the manager no longer listens, and reports that itself
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("READY=1\nSTATUS=Ports bound")) // as above
}
