package certwatch

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"
)

// Layout is the arrangement of a profile's key files.
type Layout int

// The layouts.
const (
	LayoutV16 Layout = iota + 1 // v12 to v16: U and U-x509.pem, one key for TLS and SSH
	LayoutV17                   // v17 and later: U.key and U.crt, and U for SSH alone
)

// String returns "v16" or "v17".
func (l Layout) String() string {
	switch l {
	case LayoutV16:
		return "v16"
	case LayoutV17:
		return "v17"
	default:
		return fmt.Sprintf("Layout(%d)", int(l))
	}
}

// ErrHardwareKey is the KeyError of a session whose private key is in a
// hardware security key: tsh can use it, this process cannot.
var ErrHardwareKey = errors.New("the private key is in a hardware security key")

// Session is the result of one login or reissue in a home: key and certificates
// that were checked to belong together. It is immutable.
type Session struct {
	// Cert is the X.509 certificate with its key, Leaf set. Its PrivateKey is
	// nil when KeyError is not.
	Cert     tls.Certificate `json:"-"`
	KeyError error           `json:"-"` // why the key cannot be used here; nil means it can

	Identity Identity
	SSH      *SSHIdentity // nil means there is no usable SSH certificate

	// ValidFrom and ValidUntil bound the time in which both certificates are
	// valid. No judgement is made here: a session may be expired, or of the
	// future.
	ValidFrom, ValidUntil time.Time

	Layout Layout
	// CAs holds the host CAs of each cluster known at the time of the login.
	CAs map[string][]*x509.Certificate `json:"-"`
	// Fingerprint is the same for two sessions when nothing in them differs:
	// certificates and CAs. It is safe to show.
	Fingerprint string
}

// CAPool returns the host CAs of the named clusters, or of all clusters when
// none is named.
func (s Session) CAPool(clusters ...string) *x509.CertPool {
	if len(clusters) == 0 {
		clusters = slices.Collect(maps.Keys(s.CAs))
	}
	pool := x509.NewCertPool()
	for _, cluster := range clusters {
		for _, ca := range s.CAs[cluster] {
			pool.AddCert(ca)
		}
	}
	return pool
}

// String describes the session; it never shows the key.
func (s Session) String() string {
	return fmt.Sprintf("session %s of %s until %s", s.shortFingerprint(), s.Identity.User,
		s.ValidUntil.UTC().Format(time.RFC3339))
}

// GoString is String, so that %#v shows no key either.
func (s Session) GoString() string { return s.String() }

// LogValue describes the session; it never shows the key.
func (s Session) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("user", s.Identity.User),
		slog.String("root_cluster", s.Identity.TeleportCluster),
		slog.Any("roles", s.Identity.Roles),
		slog.Any("active_requests", s.Identity.ActiveRequests),
		slog.Time("valid_until", s.ValidUntil.UTC()),
		slog.String("layout", s.Layout.String()),
		slog.Bool("hardware_key", errors.Is(s.KeyError, ErrHardwareKey)),
		slog.String("fingerprint", s.shortFingerprint()),
	)
}

func (s Session) shortFingerprint() string { return s.Fingerprint[:min(12, len(s.Fingerprint))] }

// fingerprint computes Fingerprint from everything public in the session; the
// private key is the certificate's.
func (s *Session) fingerprint(sshCert []byte) string {
	sum := sha256.New()
	part := func(b []byte) {
		fmt.Fprintf(sum, "%d:", len(b))
		sum.Write(b)
	}
	for _, der := range s.Cert.Certificate {
		part(der)
	}
	part(sshCert)
	part([]byte(s.Layout.String()))
	if s.KeyError != nil {
		part([]byte(s.KeyError.Error()))
	}
	for _, cluster := range slices.Sorted(maps.Keys(s.CAs)) {
		part([]byte(cluster))
		for _, ca := range s.CAs[cluster] {
			part(ca.Raw)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}
