package config

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"berth/agent/state"
)

// ProxyTrust is the config's trust in one proxy's web certificate.
type ProxyTrust struct {
	RootCAs  *x509.CertPool // nil: the system's
	CAFile   string         // absolute; where RootCAs are from; empty: the system
	Insecure bool           // the certificate is not verified
}

// CAFileError says that a profile's ca_file cannot be used.
type CAFileError struct {
	Path string // as the config has it
	Err  error
}

func (e *CAFileError) Error() string { return fmt.Sprintf("ca_file %s: %v", e.Path, e.Err) }

// Unwrap returns the cause.
func (e *CAFileError) Unwrap() error { return e.Err }

// ProxyTrust reads what the config says of the proxy at an address, its ca_file
// included. A file that cannot be used is a *CAFileError.
func (c *Config) ProxyTrust(proxyAddr string) (ProxyTrust, error) {
	p, ok := c.Profile(proxyAddr)
	if !ok {
		return ProxyTrust{}, nil
	}
	trust := ProxyTrust{Insecure: p.Insecure}
	if p.CAFile == "" {
		return trust, nil
	}
	raw, err := os.ReadFile(p.CAFilePath())
	if err != nil {
		if path, ok := errors.AsType[*os.PathError](err); ok {
			err = path.Err // the path is in the error already
		}
		return ProxyTrust{}, &CAFileError{Path: p.CAFile, Err: err}
	}
	trust.CAFile = p.CAFilePath()
	if trust.RootCAs = pools.of(trust.CAFile, raw); trust.RootCAs == nil {
		return ProxyTrust{}, &CAFileError{Path: p.CAFile, Err: errors.New("there is no certificate in it")}
	}
	return trust, nil
}

// pools has the newest pool of each file: all tunnels through a proxy share it.
var pools poolCache

type poolCache struct {
	mu   sync.Mutex
	made map[string]pool // by the file's path
}

type pool struct {
	raw   []byte
	certs *x509.CertPool
}

// of returns the pool of the certificates in raw, which is what a file has now; nil
// means that there are none.
func (c *poolCache) of(path string, raw []byte) *x509.CertPool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.made[path]; ok && bytes.Equal(p.raw, raw) {
		return p.certs
	}
	certs := x509.NewCertPool()
	if !certs.AppendCertsFromPEM(raw) {
		return nil
	}
	if c.made == nil {
		c.made = make(map[string]pool)
	}
	c.made[path] = pool{raw, certs}
	return certs
}

// ShoutInsecure logs every proxy that is not verified.
func (c *Config) ShoutInsecure(log *slog.Logger) {
	for _, p := range c.Profiles {
		if p.Insecure {
			log.Warn("INSECURE: this proxy's web certificate is not verified", "proxy", p.Proxy)
		}
	}
}

// InsecureProblems are the proxies that have not been verified since.
func (c *Config) InsecureProblems(since time.Time) []state.Problem {
	var list []state.Problem
	for _, p := range c.Profiles {
		if p.Insecure {
			list = append(list, state.Problem{
				Code: state.CodeInsecureProxy, Title: "INSECURE proxy",
				Text:   fmt.Sprintf("insecure: true is set for %s: its web certificate is NOT verified, and anyone on the way can read your data.", p.Proxy),
				Action: "remove insecure: true, or name the CA with ca_file", Since: since,
			})
		}
	}
	return list
}
