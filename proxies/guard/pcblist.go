package guard

import (
	"encoding/binary"
	"net/netip"
)

// What macOS discloses of its TCP sockets, by the sysctl net.inet.tcp.pcblist_n
// that netstat reads: after a header, records that each say how long they are
// and of which kind, padded to eight bytes. A socket is several records in a
// row, of which two matter here: struct xinpcb_n of <netinet/in_pcb.h> with its
// addresses, then struct xsocket_n of <sys/socketvar.h> with who made it. Their
// fields are packed to four bytes.
const (
	pcbSocket  = 0x001 // XSO_SOCKET
	pcbAddress = 0x010 // XSO_INPCB

	pcbPad         = 8
	pcbForeignPort = 16 // big-endian, as is the next
	pcbLocalPort   = 18
	pcbVersion     = 44 // inp_vflag
	pcbForeign     = 48 // 16 bytes; an IPv4 address is in the last four
	pcbLocal       = 64
	pcbAddressLen  = 80 // at least

	pcbIPv4 = 0x1 // INP_IPV4

	pcbUID       = 64 // so_uid
	pcbPID       = 68 // so_last_pid
	pcbSocketLen = 72 // at least
)

// pcbOwner finds in a list of sockets the maker of the one whose own address is
// client and whose peer is server.
func pcbOwner(list []byte, client, server netip.AddrPort) (uid, pid uint32, err error) {
	le := binary.LittleEndian // on every Mac there is
	if len(list) < 4 {
		return 0, 0, ErrUnknown
	}
	found := false
	for at := pcbNext(0, le.Uint32(list)); at+pcbPad <= len(list); {
		length, kind := le.Uint32(list[at:]), le.Uint32(list[at+4:])
		if length < pcbPad || uint64(length) > uint64(len(list)-at) {
			break // the header's twin, or something unreadable
		}
		record := list[at : at+int(length)]
		switch {
		case kind == pcbAddress && length >= pcbAddressLen:
			local, foreign := pcbAddresses(record)
			found = local == client && foreign == server
		case kind == pcbSocket && length >= pcbSocketLen && found:
			return le.Uint32(record[pcbUID:]), le.Uint32(record[pcbPID:]), nil
		}
		at = pcbNext(at, length)
	}
	return 0, 0, ErrUnknown
}

// pcbNext is where the record after the one at a place begins.
func pcbNext(at int, length uint32) int {
	return at + int((uint64(length)+pcbPad-1)/pcbPad*pcbPad)
}

func pcbAddresses(record []byte) (local, foreign netip.AddrPort) {
	address := func(at int) netip.Addr {
		if record[pcbVersion]&pcbIPv4 != 0 {
			return netip.AddrFrom4([4]byte(record[at+12 : at+16]))
		}
		return netip.AddrFrom16([16]byte(record[at : at+16]))
	}
	return netip.AddrPortFrom(address(pcbLocal), binary.BigEndian.Uint16(record[pcbLocalPort:])),
		netip.AddrPortFrom(address(pcbForeign), binary.BigEndian.Uint16(record[pcbForeignPort:]))
}
