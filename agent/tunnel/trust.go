package tunnel

import (
	"context"
	"net"
	"sync"

	"golang.org/x/sync/singleflight"

	"berth/agent/config"
	"berth/proxies"
	"berth/proxies/route"
)

// trust remembers which proxies' web certificates were verified, so that a
// tunnel is not called ready while every client would fail because a CA is missing.
type trust struct {
	flight singleflight.Group

	mu       sync.Mutex
	verified map[trustKey]bool
}

type trustKey struct{ proxy, caFile string }

// check makes one TLS handshake with the proxy, without a client cert, unless
// that went well before. It returns an error that matches
// route.ErrUntrusted when the web certificate is not to be trusted.
func (tr *trust) check(ctx context.Context, proxyAddr string, set config.ProxyTrust) error {
	key := trustKey{proxy: proxyAddr, caFile: set.CAFile}
	tr.mu.Lock()
	done := tr.verified[key]
	tr.mu.Unlock()
	if done || set.Insecure {
		return nil
	}
	_, err, _ := tr.flight.Do(key.proxy+"\x00"+key.caFile, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), proxies.MaxDialTimeout)
		defer cancel()
		var conn net.Conn
		conn, err := route.Route{ProxyAddr: proxyAddr, RootCAs: set.RootCAs}.Dial(ctx)
		if err != nil {
			return nil, err
		}
		return nil, conn.Close()
	})
	if err != nil {
		return err
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.verified == nil {
		tr.verified = make(map[trustKey]bool)
	}
	tr.verified[key] = true
	return nil
}
