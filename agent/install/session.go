package install

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gravitational/teleport/api/utils/keys"
	"golang.org/x/crypto/ssh"

	"berth/certwatch"
)

// How tsh names the files of a session in keys/PROXY, after the user's name.
const (
	pubSuffix    = ".pub"
	keySuffix    = ".key"      // v17: the TLS key
	crtSuffix    = ".crt"      // v17: the TLS certificate
	x509Suffix   = "-x509.pem" // v16: the TLS certificate
	ppkSuffix    = ".ppk"      // the SSH key as PuTTY wants it
	sshSuffix    = "-ssh"      // the folder of SSH certificates
	sshCertTail  = "-cert.pub"
	casName      = "cas"
	allCAsName   = "certs.pem"
	kubeLockName = "kube_credentials.lock"
)

// resourceSuffixes end the folders of certificates for single resources.
var resourceSuffixes = []string{"-db", "-kube", "-app"}

// session is the content of one user's files in one keys/PROXY folder.
type session struct {
	certName string // the file of the TLS certificate
	cert     *x509.Certificate
	identity certwatch.Identity
	tlsKey   crypto.PublicKey // of the private key; nil when that is in a hardware key
	sshKey   ssh.PublicKey
	sshCerts map[string]*ssh.Certificate // by cluster
}

// readSession reads a user's session and checks that its parts belong
// together. After an upgrade of tsh both layouts may be there; then the session
// that ends later counts.
func readSession(dir, user string) (*session, error) {
	v17, err17 := readPair(dir, user+keySuffix, user+crtSuffix)
	v16, err16 := readPair(dir, user, user+x509Suffix)
	s, v16wins := v17, v16 != nil && (v17 == nil || v16.cert.NotAfter.After(v17.cert.NotAfter))
	if v16wins {
		s = v16
	}
	if s == nil {
		if errors.Is(err17, fs.ErrNotExist) && !errors.Is(err16, fs.ErrNotExist) {
			return nil, err16
		}
		return nil, err17
	}
	if err := s.readSSH(dir, user); err != nil {
		return nil, err
	}
	return s, nil
}

// readPair reads a TLS key and its certificate.
func readPair(dir, keyName, certName string) (*session, error) {
	data, err := os.ReadFile(filepath.Join(dir, certName))
	if err != nil {
		return nil, err
	}
	s := &session{certName: certName}
	if err := s.setCert(data); err != nil {
		return nil, err
	}
	if s.tlsKey, err = readKey(filepath.Join(dir, keyName)); err != nil {
		return nil, err
	}
	if s.tlsKey != nil && !sameKey(s.tlsKey, s.cert.PublicKey) {
		return nil, fmt.Errorf("key %q and certificate %q are of different logins", keyName, certName)
	}
	return s, nil
}

// setCert makes data the TLS certificate.
func (s *session) setCert(data []byte) error {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return fmt.Errorf("certificate %q: it holds no whole certificate", s.certName)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("certificate %q: %w", s.certName, err)
	}
	s.cert, s.identity = cert, certwatch.ParseIdentity(cert.Subject)
	return nil
}

// readSSH reads the SSH key and certificates.
func (s *session) readSSH(dir, user string) error {
	pub, err := os.ReadFile(filepath.Join(dir, user+pubSuffix))
	if err != nil {
		return err
	}
	if s.sshKey, _, _, _, err = ssh.ParseAuthorizedKey(pub); err != nil {
		return fmt.Errorf("SSH public key %q: %w", user+pubSuffix, err)
	}
	private, err := readKey(filepath.Join(dir, user))
	if err != nil {
		return err
	}
	if private != nil {
		of, err := ssh.NewPublicKey(private)
		if err != nil || !bytes.Equal(of.Marshal(), s.sshKey.Marshal()) {
			return fmt.Errorf("SSH keys %q and %q are of different logins", user, user+pubSuffix)
		}
	}
	certs, err := filepath.Glob(filepath.Join(escapeGlob(filepath.Join(dir, user+sshSuffix)), "*"+sshCertTail))
	if err != nil {
		return err
	}
	s.sshCerts = map[string]*ssh.Certificate{}
	for _, path := range certs {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		cluster := strings.TrimSuffix(filepath.Base(path), sshCertTail)
		if s.sshCerts[cluster], err = s.parseSSH(cluster, data); err != nil {
			return err
		}
	}
	return nil
}

// parseSSH reads an SSH certificate, which must be for the session's key.
func (s *session) parseSSH(cluster string, data []byte) (*ssh.Certificate, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return nil, fmt.Errorf("SSH certificate for %q: %w", cluster, err)
	}
	cert, ok := key.(*ssh.Certificate)
	switch {
	case !ok:
		return nil, fmt.Errorf("SSH certificate for %q: it is a plain key", cluster)
	case !bytes.Equal(cert.Key.Marshal(), s.sshKey.Marshal()):
		return nil, fmt.Errorf("SSH certificate for %q is of another login than the key", cluster)
	default:
		return cert, nil
	}
}

// readKey returns the public half of a private key; nil when that is in a
// hardware key. Its errors hold nothing of the key.
func readKey(path string) (crypto.PublicKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("key %q: it is not whole", filepath.Base(path))
	}
	if strings.HasPrefix(block.Type, "PIV ") { // parsing it might ask for a PIN
		return nil, nil
	}
	key, err := keys.ParsePrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("key %q: it holds no private key of a known kind", filepath.Base(path))
	}
	return key.Public(), nil
}

func sameKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

// digest identifies a user's session in dir by its public files. It is the
// same for two folders when they hold the same session, or both none.
func digest(dir, user string) string {
	names := []string{user + crtSuffix, user + x509Suffix, user + pubSuffix}
	if entries, err := os.ReadDir(filepath.Join(dir, user+sshSuffix)); err == nil {
		for _, e := range entries {
			names = append(names, filepath.Join(user+sshSuffix, e.Name()))
		}
	}
	slices.Sort(names)
	sum := sha256.New()
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			fmt.Fprintf(sum, "%q %d:", name, len(data))
			sum.Write(data)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// escapeGlob makes a path a pattern that matches only itself.
func escapeGlob(path string) string {
	if os.PathSeparator == '\\' {
		return path // Windows has no escapes; and forbids * and ? in names
	}
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}
