package guard

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"
)

// supported reports whether this system discloses the user of a client.
const supported = true

// system asks GetExtendedTcpTable which process holds a socket, and that
// process's token whose it is.
type system struct {
	once sync.Once
	own  *windows.SID
	err  error
}

var getExtendedTCPTable = windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetExtendedTcpTable")

// tcpTableOwnerPIDConnections is TCP_TABLE_OWNER_PID_CONNECTIONS of iprtrmib.h.
const tcpTableOwnerPIDConnections = 4

func (s *system) check(client, server netip.AddrPort) error {
	s.once.Do(func() { s.own, s.err = userOf(windows.GetCurrentProcessToken()) })
	if s.err != nil {
		return fmt.Errorf("ask who I am: %w", s.err)
	}
	pid, err := owner(client, server)
	if err != nil {
		return err
	}
	sid, err := userOfProcess(pid)
	if err != nil {
		// A process that does not let itself be asked is another user's.
		return &ForeignError{UID: "unknown", PID: int(pid)}
	}
	if !windows.EqualSid(sid, s.own) {
		return &ForeignError{UID: sid.String(), PID: int(pid)}
	}
	return nil
}

func userOfProcess(pid uint32) (*windows.SID, error) {
	process, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return nil, err
	}
	defer windows.CloseHandle(process) //nolint:errcheck // nothing to be done about it
	var token windows.Token
	if err := windows.OpenProcessToken(process, windows.TOKEN_QUERY, &token); err != nil {
		return nil, err
	}
	defer token.Close() //nolint:errcheck // nothing was changed through it
	return userOf(token)
}

func userOf(token windows.Token) (*windows.SID, error) {
	user, err := token.GetTokenUser()
	if err != nil {
		return nil, err
	}
	return user.User.Sid.Copy()
}

// owner returns the process that holds the socket whose own address is client
// and whose peer is server.
func owner(client, server netip.AddrPort) (uint32, error) {
	family, rowLen := uint32(windows.AF_INET), 24 // MIB_TCPROW_OWNER_PID
	if client.Addr().Is6() {
		family, rowLen = windows.AF_INET6, 56 // MIB_TCP6ROW_OWNER_PID
	}
	table, err := tcpTable(family)
	if err != nil {
		return 0, err
	}
	rows := int(binary.LittleEndian.Uint32(table))
	for i := range rows {
		start := 4 + i*rowLen
		if start+rowLen > len(table) {
			break
		}
		local, remote, pid := readRow(table[start:start+rowLen], client.Addr().Is6())
		if local == client && remote == server {
			return pid, nil
		}
	}
	return 0, ErrUnknown
}

func readRow(row []byte, six bool) (local, remote netip.AddrPort, pid uint32) {
	port := func(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
	if six {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(row[0:16])), port(row[20:])),
			netip.AddrPortFrom(netip.AddrFrom16([16]byte(row[24:40])), port(row[44:])),
			binary.LittleEndian.Uint32(row[52:])
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(row[4:8])), port(row[8:])),
		netip.AddrPortFrom(netip.AddrFrom4([4]byte(row[12:16])), port(row[16:])),
		binary.LittleEndian.Uint32(row[20:])
}

func tcpTable(family uint32) ([]byte, error) {
	size := uint32(64 << 10)
	for range 5 { // it may grow between two calls
		buf := make([]byte, size)
		code, _, _ := getExtendedTCPTable.Call(uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0,
			uintptr(family), tcpTableOwnerPIDConnections, 0)
		switch windows.Errno(code) {
		case windows.ERROR_SUCCESS:
			return buf, nil
		case windows.ERROR_INSUFFICIENT_BUFFER:
			size += 16 << 10
		default:
			return nil, fmt.Errorf("ask who the client is: %w", windows.Errno(code))
		}
	}
	return nil, ErrUnknown
}
