package certwatch

import (
	"encoding/json"
	"errors"
	"math"
	"time"

	"golang.org/x/crypto/ssh"
)

// SSHIdentity is the content of an SSH certificate.
type SSHIdentity struct {
	KeyID                   string // the Teleport user
	Principals              []string
	ValidAfter, ValidUntil  time.Time // zero means unbounded
	Roles                   []string
	Traits                  map[string][]string
	RouteToCluster          string
	ActiveRequests          []string
	PrivateKeyPolicy        string
	LoginIP                 string
	PinnedIP                string // the source-address option
	MFAVerified             string // the device id
	DeviceID                string
	PreviousIdentityExpires time.Time
	Extensions              map[string]string // all of them
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
	id := &SSHIdentity{
		PublicKey:        ssh.MarshalAuthorizedKey(cert.Key),
		KeyID:            cert.KeyId,
		Principals:       cert.ValidPrincipals,
		ValidAfter:       certTime(cert.ValidAfter),
		ValidUntil:       certTime(cert.ValidBefore),
		Roles:            jsonList(ext["teleport-roles"], "roles"),
		RouteToCluster:   ext["teleport-route-to-cluster"],
		ActiveRequests:   jsonList(ext["teleport-active-requests"], "access_requests"),
		PrivateKeyPolicy: ext["private-key-policy"],
		LoginIP:          ext["login-ip"],
		PinnedIP:         cert.CriticalOptions["source-address"],
		MFAVerified:      ext["mfa-verified"],
		DeviceID:         ext["teleport-device-id"],
		Extensions:       ext,
	}
	if t, err := time.Parse(time.RFC3339, ext["prev-identity-expires"]); err == nil {
		id.PreviousIdentityExpires = t.UTC()
	}
	var traits map[string][]string
	if json.Unmarshal([]byte(ext["teleport-traits"]), &traits) == nil {
		id.Traits = traits
	}
	return id
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
