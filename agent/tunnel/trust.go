package tunnel

import (
	"context"
	"sync"
	"time"

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
	verified map[trustKey]time.Duration // how long the handshake took
}

type trustKey struct{ proxy, caFile string }

// check makes one TLS handshake with the proxy, without a client cert, unless
// that went well before. It returns how long that took, zero where none is made, and an
// error that matches route.ErrUntrusted when the web certificate is not to be trusted.
func (tr *trust) check(ctx context.Context, proxyAddr string, set config.ProxyTrust) (took time.Duration, err error) {
	key := trustKey{proxy: proxyAddr, caFile: set.CAFile}
	tr.mu.Lock()
	took, done := tr.verified[key]
	tr.mu.Unlock()
	if done || set.Insecure {
		return took, nil
	}
	answer, err, _ := tr.flight.Do(key.proxy+"\x00"+key.caFile, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), proxies.MaxDialTimeout)
		defer cancel()
		began := time.Now()
		conn, err := route.Route{ProxyAddr: proxyAddr, RootCAs: set.RootCAs}.Dial(ctx)
		if err != nil {
			return nil, err
		}
		return time.Since(began), conn.Close()
	})
	if err != nil {
		return 0, err
	}
	took, _ = answer.(time.Duration)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.verified == nil {
		tr.verified = make(map[trustKey]time.Duration)
	}
	tr.verified[key] = took
	return took, nil
}
