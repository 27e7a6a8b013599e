package faketsh

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/utils/keypaths"
	"github.com/gravitational/teleport/api/utils/keys"
	"github.com/gravitational/teleport/api/utils/sshutils"
	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/ssh"

	"berth/certwatch"
	"berth/internal/tshhome"
)

var (
	errNotLoggedIn = errors.New("Not logged in.")                                   // tsh's words
	errCertExpired = errors.New("ssh: cert has expired")                            // what commands say that do not log in again
	errNoProxy     = errors.New("No proxy address specified, missed --proxy flag?") // tsh's words
)

// session is a profile in a home, and what a login left for it.
type session struct {
	home    tshhome.Home
	profile tshhome.Profile
	creds   tshhome.Credentials
	ssh     *ssh.Certificate // nil means there are no keys: never logged in, or logged out
	tls     tls.Certificate
	id      certwatch.Identity // what the X.509 cert says
}

// loadProfile reads the named profile, or the current one if name is empty.
func loadProfile(home tshhome.Home, name string) (tshhome.Profile, error) {
	var p tshhome.Profile
	if name == "" {
		current, err := os.ReadFile(keypaths.CurrentProfileFilePath(home.Dir))
		if errors.Is(err, fs.ErrNotExist) {
			return p, errNotLoggedIn
		}
		if err != nil {
			return p, err
		}
		name = strings.TrimSpace(string(current))
	}
	content, err := os.ReadFile(keypaths.ProfileFilePath(home.Dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return p, errNotLoggedIn
	}
	if err != nil {
		return p, err
	}
	if err := yaml.Unmarshal(content, &p); err != nil {
		return p, fmt.Errorf("parse profile %q: %w", name, err)
	}
	return p, nil
}

// load reads the session of --proxy, or the current one. Commands that find no
// current one would go on to log in, if they only knew where.
func (t *tsh) load() (*session, error) {
	home, err := t.home()
	if err != nil {
		return nil, err
	}
	name := profileName(t.flag("proxy", "TELEPORT_PROXY"))
	p, err := loadProfile(home, name)
	if errors.Is(err, errNotLoggedIn) && name == "" {
		return nil, errNoProxy
	}
	if err != nil {
		return nil, err
	}
	return loadSession(home, p)
}

// profileName returns the name of a proxy address's profile: its host.
func profileName(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

// loadSession reads a profile's keys and certs; there may be none.
func loadSession(home tshhome.Home, p tshhome.Profile) (*session, error) {
	s := &session{home: home, profile: p}
	name, user := p.Name(), p.User
	certPath, keyPath := keypaths.TLSCertPathLegacy(home.Dir, name, user), keypaths.UserSSHKeyPath(home.Dir, name, user)
	if home.Layout == tshhome.V17 {
		certPath, keyPath = keypaths.TLSCertPath(home.Dir, name, user), keypaths.UserTLSKeyPath(home.Dir, name, user)
	}
	sshDir := keypaths.SSHDir(home.Dir, name, user)
	casDir := keypaths.CAsDir(home.Dir, name)
	err := errors.Join(
		readInto(certPath, &s.creds.Cert),
		readInto(keyPath, &s.creds.TLSKey),
		readInto(keypaths.UserSSHKeyPath(home.Dir, name, user), &s.creds.SSHKey),
		readInto(keypaths.PublicKeyPath(home.Dir, name, user), &s.creds.SSHPub),
		readInto(keypaths.KnownHostsPath(home.Dir), &s.creds.KnownHosts),
	)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		s.creds.SSHCerts, err = readAll(sshDir, "-cert.pub")
	}
	if err == nil {
		s.creds.CAs, err = readAll(casDir, ".pem")
	}
	if err != nil {
		return nil, err
	}
	return s, s.parse()
}

func (s *session) parse() error {
	var err error
	if s.tls, err = keys.X509KeyPair(s.creds.Cert, s.creds.TLSKey); err != nil {
		return err
	}
	if s.tls.Leaf, err = x509.ParseCertificate(s.tls.Certificate[0]); err != nil {
		return err
	}
	s.id = certwatch.ParseIdentity(s.tls.Leaf.Subject)
	if cert, ok := s.creds.SSHCerts[s.profile.Cluster]; ok {
		s.ssh, err = sshutils.ParseCertificate(cert)
	}
	return err
}

func readInto(path string, to *[]byte) error {
	content, err := os.ReadFile(path)
	*to = content
	return err
}

// readAll reads the files in dir whose names end in suffix, by what is before.
func readAll(dir, suffix string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	paths, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	for _, path := range paths {
		var content []byte
		err = errors.Join(err, readInto(path, &content))
		files[strings.TrimSuffix(filepath.Base(path), suffix)] = content
	}
	return files, err
}

// validUntil is when the session ends, by its SSH cert: that is what tsh looks
// at.
func (s *session) validUntil() time.Time { return time.Unix(int64(s.ssh.ValidBefore), 0) }

func (s *session) valid() bool { return s.ssh != nil && time.Now().Before(s.validUntil()) }

// need returns an error unless there is a session and it is valid.
func (s *session) need() error {
	switch {
	case s.ssh == nil:
		return errNotLoggedIn
	case !s.valid():
		return errCertExpired
	default:
		return nil
	}
}

// roles returns the roles in the SSH cert.
func (s *session) roles() []string {
	var ext struct {
		Roles []string `json:"roles"`
	}
	if s.ssh == nil || json.Unmarshal([]byte(s.ssh.Extensions["teleport-roles"]), &ext) != nil {
		return nil
	}
	return ext.Roles
}

// requests returns the active access requests in the SSH cert.
func (s *session) requests() []string {
	var ext struct {
		IDs []string `json:"access_requests"`
	}
	if s.ssh == nil || json.Unmarshal([]byte(s.ssh.Extensions["teleport-active-requests"]), &ext) != nil {
		return nil
	}
	return ext.IDs
}

// logins returns the OS logins in the SSH cert.
func (s *session) logins() []string {
	if s.ssh == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.ssh.ValidPrincipals), func(p string) bool { return strings.HasPrefix(p, "-teleport-") })
}

// cluster returns the cluster a command is about: --cluster, or the selected
// one.
func (t *tsh) cluster(s *session) string {
	if c := t.flag("cluster", "TELEPORT_CLUSTER"); c != "" {
		return c
	}
	return s.profile.Cluster
}

// root returns the name of the cluster that was logged in to.
func (s *session) root() string { return s.id.TeleportCluster }

// clusterCAs returns the host CA of a cluster, as it was at the login.
func (s *session) clusterCAs(name string) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.creds.CAs[name])
	return pool
}

// auth connects to the auth service of a cluster; the caller closes it.
func (t *tsh) auth(ctx context.Context, s *session, name string) (*client.Client, error) {
	return client.New(ctx, client.Config{
		Addrs: []string{s.profile.WebProxyAddr},
		Credentials: []client.Credentials{client.LoadTLS(&tls.Config{
			Certificates: []tls.Certificate{s.tls},
			RootCAs:      s.clusterCAs(name),
			MinVersion:   tls.VersionTLS12,
		})},
		ALPNSNIAuthDialClusterName: name,
		ALPNConnUpgradeRequired:    s.profile.ConnUpgradeRequired,
		InsecureAddressDiscovery:   true, // the connection to auth itself is verified
		DialInBackground:           true,
		DialTimeout:                10 * time.Second,
	})
}
