package certwatch

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/utils/keys"
	"golang.org/x/crypto/ssh"
)

// A reading is the content of a profile's files, and whether to believe it.
type reading struct {
	profile *Profile // nil means that there is no such profile
	what    digest   // of the files' content
	when    digest   // of that and of the times of writing

	// doubt is why the reading may show a moment in the middle of a change;
	// nil means none. A doubtful reading is believed when the files have stayed
	// exactly so for patience.
	doubt    error
	patience time.Duration
	quiet    time.Duration // how long ago anything was written
}

// Why a reading is doubted although nothing in it is broken.
var (
	errJustWritten = errors.New("files were written this moment")
	errChanging    = errors.New("files changed while they were read")
	errGone        = errors.New("the session's files are gone")
	errNoSSHYet    = errors.New("the SSH certificate is not there yet")
	errSSHOlder    = errors.New("the SSH certificate is older than the X.509 certificate")
	errTwoLogins   = errors.New("the SSH and X.509 certificates end at different times")
	errUnfinished  = errors.New("the profile file does not end in a newline")
)

const (
	// A file younger than this may have been written after its neighbour was
	// read: two ticks of the 100 Hz clock that file times come from.
	justWritten = 20 * time.Millisecond
	// One login's certificates begin and end within moments of each other.
	sameLogin = 5 * time.Second
	// For how long after a change certificates of two logins are doubted.
	twoLoginsDoubt = time.Minute
)

// patience says for how long doubtful files must stay the same before they
// are believed.
type patience struct {
	broken time.Duration // files that make no session, or seem unfinished
	gone   time.Duration // files that disappeared
}

// assemble makes a profile of its files.
func assemble(r *profileFiles, p patience) reading {
	what, when := r.digests()
	out := reading{what: what, when: when, patience: p.broken, quiet: r.readAt.Sub(r.newest())}
	if r.yaml.missing() {
		out.doubt, out.patience = errGone, p.gone
		return out
	}
	if err := errors.Join(r.yaml.err, r.parseErr); err != nil {
		err = fmt.Errorf("profile %q: %w", r.yaml.path, err)
		out.profile, out.doubt = &Profile{Home: r.home, Name: r.name, Problem: err}, err
		return out
	}
	profile := r.parsed.profile(r.home, r.name)
	out.profile = &profile

	session, err := r.session(p)
	profile.Session, profile.Problem = session, err
	switch {
	case session != nil:
		profile.RootCluster = session.Identity.TeleportCluster
		if profile.Cluster == "" {
			profile.Cluster = profile.RootCluster
		}
		out.doubt = errors.Join(err, r.inMotion(session, p))
	case err != nil:
		out.doubt = err
	default:
		out.doubt, out.patience = errGone, p.gone
	}
	return out
}

// session makes the session that the files hold. Neither session nor error
// means logged out; both mean a session that works by its X.509 certificate
// alone, and what is wrong with the rest.
func (r *profileFiles) session(p patience) (*Session, error) {
	session, err := r.certificate(p)
	if session == nil {
		return nil, err
	}
	sshCert, sshErr := r.sshCert(session)
	session.ValidFrom, session.ValidUntil = session.Cert.Leaf.NotBefore, session.Cert.Leaf.NotAfter
	if sshCert != nil {
		session.SSH = sshIdentity(sshCert)
		if t := session.SSH.ValidAfter; t.After(session.ValidFrom) {
			session.ValidFrom = t
		}
		if t := session.SSH.ValidUntil; !t.IsZero() && t.Before(session.ValidUntil) {
			session.ValidUntil = t
		}
	}
	var casErr error
	session.CAs, casErr = r.clusterCAs()
	var sshRaw []byte
	if sshCert != nil {
		sshRaw = sshCert.Marshal()
	}
	session.Fingerprint = session.fingerprint(sshRaw)
	return session, errors.Join(err, sshErr, casErr)
}

// certificate makes a session of a key and an X.509 certificate, of whichever
// layout has a pair; of the later one if both have, after an upgrade of tsh.
func (r *profileFiles) certificate(p patience) (*Session, error) {
	hasV17 := !r.tlsKey.missing() || !r.crt.missing()
	hasV16 := !r.x509.missing() || !r.key.missing() && !hasV17 // beside v17, U is its SSH key
	var v16, v17 *Session
	var broken []error
	if hasV17 {
		session, err := newSession(LayoutV17, r.tlsKey, r.crt)
		if err != nil && (r.younger(r.tlsKey.mod, p.broken) || r.younger(r.crt.mod, p.broken)) {
			return nil, err // being written now, so the other layout's pair is of the past
		}
		v17, broken = session, append(broken, err)
	}
	if hasV16 {
		session, err := newSession(LayoutV16, r.key, r.x509)
		if err != nil && r.younger(r.x509.mod, p.broken) {
			return nil, err
		}
		v16, broken = session, append(broken, err)
	}
	switch {
	case v16 == nil && v17 == nil:
		return nil, errors.Join(broken...)
	case v16 == nil, v17 != nil && v17.Cert.Leaf.NotAfter.After(v16.Cert.Leaf.NotAfter):
		return v17, nil
	default:
		return v16, nil
	}
}

// newSession makes a session of a key file and a certificate file.
func newSession(layout Layout, key, cert content) (*Session, error) {
	if cert.err != nil {
		return nil, fmt.Errorf("certificate of the session: %w", cert.err)
	}
	chain, err := parseCerts(cert.data)
	if err != nil {
		return nil, fmt.Errorf("certificate %q: %w", cert.path, err)
	}
	session := &Session{
		Layout:   layout,
		Identity: ParseIdentity(chain[0].Subject),
		Cert:     tls.Certificate{Leaf: chain[0]},
	}
	for _, c := range chain {
		session.Cert.Certificate = append(session.Cert.Certificate, c.Raw)
	}
	signer, err := parseKey(key)
	switch {
	case errors.Is(err, ErrHardwareKey):
		session.KeyError = fmt.Errorf("key %q: %w", key.path, err)
		return session, nil
	case err != nil:
		return nil, err
	case !samePublicKey(signer.Public(), chain[0].PublicKey):
		return nil, fmt.Errorf("key %q and certificate %q are of different logins", key.path, cert.path)
	}
	session.Cert.PrivateKey = signer
	return session, nil
}

// parseKey reads a private key of any kind. Its errors hold nothing of the key.
func parseKey(key content) (crypto.Signer, error) {
	if key.err != nil {
		return nil, fmt.Errorf("key of the session: %w", key.err)
	}
	block, _ := pem.Decode(key.data)
	if block == nil {
		return nil, fmt.Errorf("key %q: no PEM block is complete", key.path)
	}
	if strings.HasPrefix(block.Type, "PIV ") { // parsing it might ask for a PIN
		return nil, ErrHardwareKey
	}
	private, err := keys.ParsePrivateKey(key.data)
	if err != nil {
		// The cause is hidden: it may quote the file.
		return nil, fmt.Errorf("key %q: it holds no private key of a known kind", key.path)
	}
	return private.Signer, nil
}

func samePublicKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

// parseCerts reads all certificates of a PEM file. A half block at the end is
// an error: the file is still being written.
func parseCerts(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	switch {
	case len(bytes.TrimSpace(data)) > 0:
		return nil, errors.New("its end is no complete PEM block")
	case len(certs) == 0:
		return nil, errors.New("it holds no certificate")
	default:
		return certs, nil
	}
}

// sshCert returns the SSH certificate for the selected cluster, or else for
// the root cluster, checked against the SSH keys. Nil without an error means
// that there is none.
func (r *profileFiles) sshCert(session *Session) (*ssh.Certificate, error) {
	file, ok := r.sshCerts[r.parsed.Cluster]
	if !ok {
		file, ok = r.sshCerts[session.Identity.TeleportCluster]
	}
	if !ok {
		return nil, nil
	}
	if file.err != nil {
		return nil, fmt.Errorf("SSH certificate: %w", file.err)
	}
	cert, err := parseSSHCert(file.data)
	if err != nil {
		return nil, fmt.Errorf("SSH certificate %q: %w", file.path, err)
	}
	for _, pub := range []func(*Session) (ssh.PublicKey, string, error){r.sshPub, r.sshKey} {
		key, path, err := pub(session)
		if err != nil {
			return nil, err
		}
		if key != nil && !bytes.Equal(key.Marshal(), cert.Key.Marshal()) {
			return nil, fmt.Errorf("key %q and SSH certificate %q are of different logins", path, file.path)
		}
	}
	return cert, nil
}

// sshPub returns the SSH public key that the home holds.
func (r *profileFiles) sshPub(*Session) (ssh.PublicKey, string, error) {
	if r.pub.err != nil {
		return nil, "", fmt.Errorf("SSH public key: %w", r.pub.err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(r.pub.data)
	if err != nil {
		return nil, "", fmt.Errorf("SSH public key %q: %w", r.pub.path, err)
	}
	return key, r.pub.path, nil
}

// sshKey returns the public half of the SSH private key; nil when that is in
// a hardware key and v17's session has another for TLS.
func (r *profileFiles) sshKey(session *Session) (ssh.PublicKey, string, error) {
	public := session.Cert.Leaf.PublicKey // v16: one key for both
	if session.Layout == LayoutV17 {
		signer, err := parseKey(r.key)
		if errors.Is(err, ErrHardwareKey) {
			return nil, "", nil
		}
		if err != nil {
			return nil, "", fmt.Errorf("SSH: %w", err)
		}
		public = signer.Public()
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, "", fmt.Errorf("SSH key %q: %w", r.key.path, err)
	}
	return key, r.key.path, nil
}

// clusterCAs returns the host CAs by cluster, from the one file of older
// versions if there are no files by cluster.
func (r *profileFiles) clusterCAs() (map[string][]*x509.Certificate, error) {
	cas := map[string][]*x509.Certificate{}
	var broken []error
	for _, cluster := range sortedNames(r.cas) {
		certs, err := readCAs(r.cas[cluster])
		if err != nil {
			broken = append(broken, err)
			continue
		}
		cas[cluster] = certs
	}
	if len(r.cas) > 0 {
		return cas, errors.Join(broken...)
	}
	certs, err := readCAs(r.allCAs)
	if err != nil {
		return cas, err
	}
	for _, cert := range certs {
		cluster := cert.Subject.CommonName
		cas[cluster] = append(cas[cluster], cert)
	}
	return cas, nil
}

func readCAs(file content) ([]*x509.Certificate, error) {
	if file.err != nil {
		return nil, fmt.Errorf("cluster CAs: %w", file.err)
	}
	certs, err := parseCerts(file.data)
	if err != nil {
		return nil, fmt.Errorf("cluster CAs %q: %w", file.path, err)
	}
	return certs, nil
}

// inMotion returns why files that make a session may yet be about to change:
// tsh writes them one by one, the SSH certificate after the X.509 one.
func (r *profileFiles) inMotion(session *Session, p patience) error {
	newest := r.newest()
	recent := r.younger(newest, p.broken)
	cert := r.crt
	if session.Layout == LayoutV16 {
		cert = r.x509
	}
	switch {
	case r.younger(newest, justWritten):
		return errJustWritten
	case recent && !bytes.HasSuffix(r.yaml.data, []byte("\n")):
		return errUnfinished
	case recent && session.SSH == nil:
		return errNoSSHYet
	case session.SSH == nil:
		return nil
	case r.younger(cert.mod, p.broken) && cert.mod.After(r.sshMod(session)):
		return errSSHOlder
	case r.younger(newest, twoLoginsDoubt) &&
		apart(session.Cert.Leaf.NotBefore, session.SSH.ValidAfter) > sameLogin &&
		apart(session.Cert.Leaf.NotAfter, session.SSH.ValidUntil) > sameLogin:
		return errTwoLogins
	default:
		return nil
	}
}

// sshMod returns when the SSH certificate in use was written.
func (r *profileFiles) sshMod(session *Session) time.Time {
	if file, ok := r.sshCerts[r.parsed.Cluster]; ok {
		return file.mod
	}
	return r.sshCerts[session.Identity.TeleportCluster].mod
}

func apart(a, b time.Time) time.Duration { return a.Sub(b).Abs() }
