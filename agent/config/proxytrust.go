package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
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
	trust.CAFile, trust.RootCAs = p.CAFilePath(), x509.NewCertPool()
	if !trust.RootCAs.AppendCertsFromPEM(raw) {
		return ProxyTrust{}, &CAFileError{Path: p.CAFile, Err: errors.New("there is no certificate in it")}
	}
	return trust, nil
}
