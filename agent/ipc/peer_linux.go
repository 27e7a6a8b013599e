package ipc

import (
	"strconv"

	"golang.org/x/sys/unix"
)

func peerOfFD(fd int) (Peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, err
	}
	return Peer{UID: strconv.FormatUint(uint64(cred.Uid), 10), PID: int(cred.Pid)}, nil
}
