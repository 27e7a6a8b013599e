package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// supported reports whether this system discloses the user of a client.
const supported = true

// system asks the kernel's socket diagnosis (sock_diag(7)) about one socket at
// a time, over one netlink socket that stays open.
type system struct {
	mu  sync.Mutex // guards everything below
	fd  int        // 0 while there is none
	seq uint32
}

const (
	sockDiagByFamily = 20 // linux/sock_diag.h
	requestLen       = unix.NLMSG_HDRLEN + 56
	answerLen        = 72 // of struct inet_diag_msg
	uidOffset        = 64
	inodeOffset      = 68
	// patience bounds the wait for the kernel, which answers within the call.
	patience = 1 // s
)

func (s *system) check(client, server netip.AddrPort) error {
	uid, err := s.owner(client, server)
	switch {
	case err != nil:
		return err
	case uid != uint32(os.Getuid()):
		return &ForeignError{UID: strconv.FormatUint(uint64(uid), 10)}
	}
	return nil
}

// owner returns the uid that made the socket whose own address is client and
// whose peer is server.
func (s *system) owner(client, server netip.AddrPort) (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd == 0 {
		if err := s.openLocked(); err != nil {
			return 0, err
		}
	}
	s.seq++
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if err := unix.Sendto(s.fd, request(s.seq, client, server), 0, kernel); err != nil {
		s.closeLocked()
		return 0, fmt.Errorf("ask who the client is: %w", err)
	}
	uid, err := s.answerLocked()
	if err != nil && !errors.Is(err, ErrUnknown) {
		s.closeLocked()
	}
	return uid, err
}

func (s *system) openLocked() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return fmt.Errorf("ask who the client is: %w", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: patience}); err != nil {
		return errors.Join(fmt.Errorf("ask who the client is: %w", err), unix.Close(fd))
	}
	s.fd = fd
	return nil
}

func (s *system) closeLocked() {
	_ = unix.Close(s.fd) // nothing can be done about a failure
	s.fd = 0
}

// request is a question for exactly one TCP socket.
func request(seq uint32, client, server netip.AddrPort) []byte {
	b := make([]byte, requestLen)
	ne := binary.NativeEndian
	ne.PutUint32(b[0:], requestLen)
	ne.PutUint16(b[4:], sockDiagByFamily)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST)
	ne.PutUint32(b[8:], seq)
	d := b[unix.NLMSG_HDRLEN:] // struct inet_diag_req_v2
	d[0] = unix.AF_INET6
	if client.Addr().Is4() {
		d[0] = unix.AF_INET
	}
	d[1] = unix.IPPROTO_TCP
	ne.PutUint32(d[4:], ^uint32(0)) // in whatever state
	id := d[8:]                     // struct inet_diag_sockid
	binary.BigEndian.PutUint16(id[0:], client.Port())
	binary.BigEndian.PutUint16(id[2:], server.Port())
	copy(id[4:20], client.Addr().AsSlice())
	copy(id[20:36], server.Addr().AsSlice())
	ne.PutUint32(id[40:], ^uint32(0)) // no cookie: INET_DIAG_NOCOOKIE twice
	ne.PutUint32(id[44:], ^uint32(0))
	return b
}

// answerLocked reads the answer to the newest question; what is left of older
// ones is passed over.
func (s *system) answerLocked() (uint32, error) {
	buf := make([]byte, 4096)
	for {
		n, _, err := unix.Recvfrom(s.fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("ask who the client is: %w", err)
		}
		msgs, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return 0, fmt.Errorf("ask who the client is: %w", err)
		}
		for _, m := range msgs {
			if m.Header.Seq == s.seq { // else it is for a question whose answer came too late
				return readAnswer(m)
			}
		}
	}
}

func readAnswer(m syscall.NetlinkMessage) (uint32, error) {
	ne := binary.NativeEndian
	switch {
	case m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4:
		errno := unix.Errno(-int32(ne.Uint32(m.Data)))
		if errno == unix.ENOENT {
			return 0, ErrUnknown
		}
		return 0, fmt.Errorf("ask who the client is: %w", errno)
	case m.Header.Type != sockDiagByFamily || len(m.Data) < answerLen:
		return 0, fmt.Errorf("ask who the client is: an answer of type %d and %d bytes", m.Header.Type, len(m.Data))
	case ne.Uint32(m.Data[inodeOffset:]) == 0:
		// Closed already: the kernel then reports uid 0, which means nothing.
		return 0, ErrUnknown
	}
	return ne.Uint32(m.Data[uidOffset:]), nil
}
