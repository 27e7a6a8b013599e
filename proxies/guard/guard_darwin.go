package guard

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// supported reports whether this system discloses the user of a client.
const supported = true

// system asks for the list of all TCP sockets, for which no right is needed.
type system struct{}

func (*system) check(client, server netip.AddrPort) error {
	list, err := unix.SysctlRaw("net.inet.tcp.pcblist_n")
	if err != nil {
		return fmt.Errorf("ask who the client is: %w", err)
	}
	uid, pid, err := pcbOwner(list, client, server)
	switch {
	case err != nil:
		return err
	case uid != uint32(os.Getuid()):
		return &ForeignError{UID: strconv.FormatUint(uint64(uid), 10), PID: int(pid)}
	}
	return nil
}
