package ipc

import "net"

// CheckPeer returns an error unless the program at the other end of a connection
// that a listener of Listen accepted is this user's.
func CheckPeer(conn net.Conn) error {
	own, err := selfUID()
	if err != nil {
		return err
	}
	p, err := peerOf(conn)
	if err == nil && p.UID != own {
		err = errForeignPeer
	}
	return err
}
