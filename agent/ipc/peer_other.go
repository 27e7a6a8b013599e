//go:build unix && !linux && !darwin

package ipc

import "errors"

func peerOfFD(int) (Peer, error) { return Peer{}, errors.ErrUnsupported }
