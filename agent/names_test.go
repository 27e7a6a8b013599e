//go:build linux

package agent

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// namedZone is where the names of proxies are that only the tests' own name server
// knows.
const namedZone = ".berth.test"

// namesLost are those that it knows no longer.
var namesLost sync.Map

// Names that are in no file are asked of a name server of the tests. It is set
// before any test runs, since all of them use the resolver.
func init() {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go serveNames(pc)
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", pc.LocalAddr().String())
	}}
}

// serveNames answers questions for as long as the program runs.
func serveNames(pc net.PacketConn) {
	buf := make([]byte, 512)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer, err := nameAnswer(buf[:n]); err == nil {
			_, _ = pc.WriteTo(answer, from) // it asks again
		}
	}
}

// nameAnswer answers one question: all names of namedZone are this machine's IPv4
// loopback.
func nameAnswer(asked []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(asked); err != nil || len(m.Questions) != 1 {
		return nil, errors.Join(errors.New("not one question"), err)
	}
	q := m.Questions[0]
	name := strings.TrimSuffix(q.Name.String(), ".")
	_, lost := namesLost.Load(name)
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	switch {
	case !strings.HasSuffix(name, namedZone) || lost:
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
			Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
		}}
	}
	return m.Pack()
}

// loseName has the proxy's name resolve no longer. What is connected is cut, as
// when a machine changes its network.
func loseName(_ *testing.T, e *env) (end func()) {
	namesLost.Store(e.Sim.ProxyHost(), true)
	e.Sim.Faults().Drop()
	return func() { namesLost.Delete(e.Sim.ProxyHost()) }
}
