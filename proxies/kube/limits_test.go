package kube

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"berth/internal/testwait"
	"berth/proxies"
)

// TestLimitOfRequests: the request that is one too many is refused with a Status that
// names the limit, and one is served again when another has ended.
func TestLimitOfRequests(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{}, 2)
	c := newCluster(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		w.WriteHeader(http.StatusOK)
	})
	r := run(t, Config{
		Source: always(c.upstream()),
		Limits: proxies.NewLimits(func() proxies.Bounds {
			return proxies.Bounds{Connections: 9, TunnelConnections: 1, Held: 9}
		}),
		Refuse: func(err error) Refusal { return Refusal{Code: http.StatusTooManyRequests, Message: err.Error()} },
	})
	first := make(chan int, 1)
	client := kubectl(t, "prod")
	go func() {
		resp, err := client.Get("https://" + r.addr() + "/api/v1/pods")
		if err != nil {
			first <- 0
			return
		}
		_ = resp.Body.Close()
		first <- resp.StatusCode
	}()
	<-arrived
	head, body := get(t, client, "https://"+r.addr()+"/api/v1/pods")
	s := statusOf(t, head.Code, body)
	if s.Reason != "TooManyRequests" || !strings.Contains(s.Message, "the limit tunnel_connections of 1 is reached") {
		t.Errorf("the second request gets %+v", s)
	}
	close(release)
	if code := <-first; code != http.StatusOK {
		t.Errorf("the first request gets %d", code)
	}
	testwait.Eventually(t, "the first is counted no longer", func() bool { return r.Tunnel.Status().Connections == 0 })
	if head, _ := get(t, client, "https://"+r.addr()+"/api/v1/pods"); head.Code != http.StatusOK {
		t.Errorf("the next request gets %d", head.Code)
	}
}

// TestLimitOfKubeConnections: what connects above the limit is closed before TLS.
func TestLimitOfKubeConnections(t *testing.T) {
	limits := proxies.NewLimits(func() proxies.Bounds {
		return proxies.Bounds{Connections: 1, TunnelConnections: 1, Held: 1}
	})
	r := run(t, Config{
		Source: always(newCluster(t, func(http.ResponseWriter, *http.Request) {}).upstream()),
		Own:    ListenerConfig{Limits: limits},
	})
	ca, err := testCA()
	if err != nil {
		t.Fatal(err)
	}
	dial := func() (*tls.Conn, error) { return tls.Dial("tcp", r.addr(), tlsOf(t, ca, "prod")) }
	first, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	if c, err := dial(); err == nil {
		_ = c.Close()
		t.Error("a second connection is served")
	}
	_ = first.Close()
	testwait.Eventually(t, "there is room again", func() bool {
		c, err := dial()
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
}

// poor is a listener on a machine that now and then lacks what a connection takes.
type poor struct {
	net.Listener
	errs []error
}

func (p *poor) Accept() (net.Conn, error) {
	err := p.errs[0]
	p.errs = p.errs[1:]
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	return near, far.Close()
}

// TestListenerOutlivesScarcity: a port that could not take a connection takes the next
// one, and ends when it is closed.
func TestListenerOutlivesScarcity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewListener(ListenerConfig{CA: testCA})
		b := &bounded{l: l, Listener: &poor{errs: []error{syscall.ENOMEM, syscall.EMFILE, nil, net.ErrClosed}}}
		c, err := b.Accept()
		if err != nil {
			t.Fatalf("the connection after two that could not be taken: %v", err)
		}
		_ = c.Close()
		if _, err := b.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a closed port: %v", err)
		}
	})
}
