package kube

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// Domain ends every tunnel's server name. It is never looked up:
// ".internal" is set aside for names of one's own.
const Domain = "kube.berth.internal"

// hashed begins the labels of names that cannot be labels themselves.
const hashed = "x-"

// label is a name that can stand as one label of a host name: names differ in
// case, host names do not, and a wildcard covers one label only.
var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?$`)

// ServerName returns the host name that clients of the named tunnel ask for
// in the TLS handshake (SNI), by which a shared listener finds the tunnel.
func ServerName(tunnel string) string {
	if !label.MatchString(tunnel) || strings.HasPrefix(tunnel, hashed) {
		sum := sha256.Sum256([]byte(tunnel))
		tunnel = hashed + hex.EncodeToString(sum[:16])
	}
	return tunnel + "." + Domain
}

// ours reports whether name is one a tunnel may have, of any tunnel.
func ours(name string) bool {
	first, ok := strings.CutSuffix(name, "."+Domain)
	return ok && first != "" && !strings.Contains(first, ".")
}
