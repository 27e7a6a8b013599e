package certwatch

import (
	"encoding/json"
	"errors"
	"math"
	"time"

	"golang.org/x/crypto/ssh"
)

// SSHIdentity is what an SSH certificate says, as far as berth needs it.
type SSHIdentity struct {
	KeyID                  string    // the Teleport user
	ValidAfter, ValidUntil time.Time // zero means unbounded
	Roles                  []string
	RouteToCluster         string
	ActiveRequests         []string
	// PublicKey is the certified key in authorized_keys form; a request for a
	// new certificate must contain it.
	PublicKey []byte `json:"-"`
}

// parseSSHCert reads an SSH certificate in authorized_keys format.
func parseSSHCert(data []byte) (*ssh.Certificate, error) {
	key, _, _, rest, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return nil, err
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, errors.New("it is a plain key, not a certificate")
	}
	if len(rest) > 0 {
		return nil, errors.New("it holds more than one line")
	}
	return cert, nil
}

// sshIdentity returns what cert says.
func sshIdentity(cert *ssh.Certificate) *SSHIdentity {
	ext := cert.Extensions
	return &SSHIdentity{
		PublicKey:      ssh.MarshalAuthorizedKey(cert.Key),
		KeyID:          cert.KeyId,
		ValidAfter:     certTime(cert.ValidAfter),
		ValidUntil:     certTime(cert.ValidBefore),
		Roles:          jsonList(ext["teleport-roles"], "roles"),
		RouteToCluster: ext["teleport-route-to-cluster"],
		ActiveRequests: jsonList(ext["teleport-active-requests"], "access_requests"),
	}
}

// certTime converts a certificate's time; "for ever" and "since ever" are zero.
func certTime(seconds uint64) time.Time {
	if seconds == 0 || seconds > math.MaxInt64 || seconds == ssh.CertTimeInfinity {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0).UTC()
}

// jsonList reads a list of strings that is either plain JSON or, as Teleport
// writes it, the named member of an object.
func jsonList(value, member string) []string {
	var list []string
	if json.Unmarshal([]byte(value), &list) == nil {
		return list
	}
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(value), &object) != nil {
		return nil
	}
	if json.Unmarshal(object[member], &list) != nil {
		return nil
	}
	return list
}
