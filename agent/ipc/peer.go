package ipc

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
)

// errForeignPeer is why a connection of another user is closed.
var errForeignPeer = errors.New("peer is another user")

// PeerFrom returns the process whose call ctx is of.
func PeerFrom(ctx context.Context) (Peer, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Peer{}, false
	}
	info, ok := p.AuthInfo.(peerInfo)
	return info.peer, ok
}

// peerCredentials lets only the agent's own user past the handshake. The
// operating system vouches for both ends and nothing leaves the machine, so
// there is no encryption beneath.
type peerCredentials struct {
	credentials.TransportCredentials

	own    string
	reject func(p Peer, err error)
}

func newPeerCredentials(reject func(Peer, error)) (peerCredentials, error) {
	own, err := selfUID()
	if err != nil {
		return peerCredentials{}, fmt.Errorf("learn own user: %w", err)
	}
	return peerCredentials{insecure.NewCredentials(), own, reject}, nil
}

// ServerHandshake identifies the peer, before any byte of theirs is read.
func (c peerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	p, err := peerOf(conn)
	if err == nil && p.UID != c.own {
		err = errForeignPeer
	}
	if err != nil {
		c.reject(p, err)
		return nil, nil, err
	}
	info := peerInfo{peer: p}
	info.SecurityLevel = credentials.PrivacyAndIntegrity
	return conn, info, nil
}

// Clone returns a copy, as the interface wants.
func (c peerCredentials) Clone() credentials.TransportCredentials { return c }

type peerInfo struct {
	credentials.CommonAuthInfo

	peer Peer
}

// AuthType names the kind of check.
func (peerInfo) AuthType() string { return "os-user" }

// checkServer closes conn unless this user serves it: in a folder that is not
// private another user could have put a socket of their own.
func checkServer(conn net.Conn, address string) (net.Conn, error) {
	own, err := selfUID()
	if err == nil {
		var p Peer
		if p, err = serverOf(conn); err == nil && p.UID != own {
			err = errForeignPeer
		}
	}
	if err != nil {
		return nil, errors.Join(foreign(address, err), conn.Close())
	}
	return conn, nil
}

func foreign(address string, cause error) error {
	return &Error{
		Code:    CodeDenied,
		Message: fmt.Sprintf("the agent at %q is not yours", address),
		Hint:    "run this as the user the agent runs as, or set BERTH_HOME to your own",
		cause:   cause,
	}
}

func notRunning(cause error) error {
	return &Error{
		Code:    CodeNotRunning,
		Message: ErrNotRunning.Message,
		Hint:    ErrNotRunning.Hint,
		cause:   cause,
	}
}
