// Package tshhome writes TELEPORT_HOME folders the way tsh does: the same
// files, modes and contents, in the same order, truncated and rewritten in
// place, so that whoever watches a home sees the same half-written moments.
//
// It knows both layouts: v16 (one key for TLS and SSH) and v17 (a key each).
// Simulated clusters and tests use it; berth itself does not write like this.
package tshhome

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/gravitational/teleport/api/utils/keypaths"
	"go.yaml.in/yaml/v3"
)

// Layout is the arrangement of a profile's key files.
type Layout int

// The layouts.
const (
	V16 Layout = iota + 1 // v12 to v16: U and U-x509.pem
	V17                   // v17 and later: U.key and U.crt, and U for SSH alone
)

// File modes, before the umask.
const (
	dirMode     = 0o700
	keyMode     = 0o600
	caMode      = 0o640
	profileMode = 0o660
)

// Home writes one TELEPORT_HOME.
type Home struct {
	Dir    string
	Layout Layout

	// Before is called with the path of each file that is about to be written
	// or removed. An error from it ends the operation there, as if tsh had
	// been killed. Nil means no call.
	Before func(path string) error
	// Torn is called with the path of each file that has been truncated and
	// half written, before the rest follows. Nil means that each file is
	// written in one go, as tsh does.
	Torn func(path string)
	// Rename writes each file as a temporary one and renames it into place.
	// tsh never does; careful installers do.
	Rename bool
	// CAsAgain is called before the CAs are written a second time, which tsh
	// does about 50 ms after the first. Nil means that they are written once.
	CAsAgain func()
}

// Profile is the content of a profile's yaml file, in tsh's own order.
type Profile struct {
	WebProxyAddr        string   `yaml:"web_proxy_addr,omitempty"` // host:port
	SSHProxyAddr        string   `yaml:"ssh_proxy_addr,omitempty"`
	KubeProxyAddr       string   `yaml:"kube_proxy_addr,omitempty"`
	PostgresProxyAddr   string   `yaml:"postgres_proxy_addr,omitempty"`
	MySQLProxyAddr      string   `yaml:"mysql_proxy_addr,omitempty"`
	User                string   `yaml:"user,omitempty"`
	Cluster             string   `yaml:"cluster,omitempty"`
	ForwardPorts        []string `yaml:"dynamic_forward_ports,omitempty"`
	Dir                 string   `yaml:"dir"`
	TLSRoutingEnabled   bool     `yaml:"tls_routing_enabled,omitempty"`
	ConnUpgradeRequired bool     `yaml:"tls_routing_conn_upgrade_required,omitempty"`
	AuthConnector       string   `yaml:"auth_connector,omitempty"`
	LoadAllCAs          bool     `yaml:"load_all_cas,omitempty"`
	MFAMode             string   `yaml:"mfa_mode,omitempty"`
	PrivateKeyPolicy    string   `yaml:"private_key_policy"` // empty means that the cluster has none
	PIVSlot             string   `yaml:"piv_slot"`
}

// Name returns the profile's name: the proxy's host, without the port.
func (p Profile) Name() string { return hostOf(p.WebProxyAddr) }

// Credentials is the result of a login or a reissue, as file contents.
type Credentials struct {
	TLSKey     []byte            // PEM; see SetKeys
	SSHKey     []byte            // PEM; with V16 the same as TLSKey
	SSHPub     []byte            // authorized_keys format
	Cert       []byte            // the X.509 certificate, PEM
	SSHCerts   map[string][]byte // the SSH certificate for each cluster
	CAs        map[string][]byte // the TLS host CAs of each cluster, PEM
	KnownHosts []byte            // the SSH host CAs
}

// Login writes what "tsh login" writes. If the home has credentials of the
// same user, they are removed first, as tsh does over an expired profile.
func (h Home) Login(p Profile, c Credentials) error {
	if err := h.removeUser(p.Name(), p.User); err != nil {
		return fmt.Errorf("log in to %q: %w", p.Name(), err)
	}
	if err := h.writeSession(p, c); err != nil {
		return fmt.Errorf("log in to %q: %w", p.Name(), err)
	}
	return nil
}

// Reissue writes what assuming or dropping an access request writes: the same
// keys with new certificates. The certificates for single resources go.
func (h Home) Reissue(p Profile, c Credentials) error {
	for _, dir := range h.userDirs(p.Name(), p.User) {
		if err := h.removeTree(dir); err != nil {
			return fmt.Errorf("reissue for %q: %w", p.Name(), err)
		}
	}
	if err := h.writeSession(p, c); err != nil {
		return fmt.Errorf("reissue for %q: %w", p.Name(), err)
	}
	return nil
}

// Select writes what "tsh login LEAF" writes: p names the leaf cluster, c has
// the same keys and an SSH certificate for the leaf. Nothing is removed.
func (h Home) Select(p Profile, c Credentials) error {
	if err := h.writeSession(p, c); err != nil {
		return fmt.Errorf("select cluster %q: %w", p.Cluster, err)
	}
	return nil
}

// Touch writes the profile and makes it the current one, and nothing else:
// what "tsh login --proxy" does while the session is valid.
func (h Home) Touch(p Profile) error {
	content, err := yaml.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode profile %q: %w", p.Name(), err)
	}
	if err := h.write(keypaths.ProfileFilePath(h.Dir, p.Name()), content, profileMode); err != nil {
		return err
	}
	return h.SetCurrent(p.Name())
}

// SetCurrent makes the named profile the current one.
func (h Home) SetCurrent(name string) error {
	return h.write(keypaths.CurrentProfileFilePath(h.Dir), []byte(name+"\n"), profileMode)
}

// writeSession writes everything of a session, the profile last.
func (h Home) writeSession(p Profile, c Credentials) error {
	if err := h.writeKeys(p, c); err != nil {
		return err
	}
	if err := h.writeCAs(p, c); err != nil {
		return err
	}
	if h.CAsAgain != nil {
		h.CAsAgain()
		if err := h.writeCAs(p, c); err != nil {
			return err
		}
	}
	return h.Touch(p)
}

// writeKeys writes the keys and the certificates for them.
func (h Home) writeKeys(p Profile, c Credentials) error {
	name, user := p.Name(), p.User
	if h.Layout == V17 {
		if err := h.writeTLSPair(name, user, c); err != nil {
			return err
		}
	}
	if err := h.write(keypaths.UserSSHKeyPath(h.Dir, name, user), c.SSHKey, keyMode); err != nil {
		return err
	}
	if err := h.write(keypaths.PublicKeyPath(h.Dir, name, user), c.SSHPub, keyMode); err != nil {
		return err
	}
	if h.Layout == V16 {
		if err := h.write(keypaths.TLSCertPathLegacy(h.Dir, name, user), c.Cert, keyMode); err != nil {
			return err
		}
	}
	for _, cluster := range sortedKeys(c.SSHCerts) {
		path := keypaths.SSHCertPath(h.Dir, name, user, cluster)
		if err := h.write(path, c.SSHCerts[cluster], keyMode); err != nil {
			return err
		}
	}
	return nil
}

// writeTLSPair writes the v17 TLS key and certificate under the key's lock.
func (h Home) writeTLSPair(name, user string, c Credentials) error {
	keyPath := keypaths.UserTLSKeyPath(h.Dir, name, user)
	return withKeyLock(keyPath, func() error {
		if err := h.write(keyPath, c.TLSKey, keyMode); err != nil {
			return err
		}
		return h.write(keypaths.TLSCertPath(h.Dir, name, user), c.Cert, keyMode)
	})
}

// writeCAs writes the clusters' CAs: one file each, all in one, and for SSH.
func (h Home) writeCAs(p Profile, c Credentials) error {
	var all []byte
	for _, cluster := range sortedKeys(c.CAs) {
		all = append(all, c.CAs[cluster]...)
		path := keypaths.TLSCAsPathCluster(h.Dir, p.Name(), cluster)
		if err := h.write(path, c.CAs[cluster], caMode); err != nil {
			return err
		}
	}
	if err := h.write(keypaths.TLSCAsPath(h.Dir, p.Name()), all, caMode); err != nil {
		return err
	}
	return h.write(keypaths.KnownHostsPath(h.Dir), c.KnownHosts, keyMode)
}

// userDirs returns the folders with a user's certificates for single clusters
// and resources.
func (h Home) userDirs(name, user string) []string {
	return []string{
		keypaths.SSHDir(h.Dir, name, user),
		keypaths.KubeDir(h.Dir, name, user),
		keypaths.DatabaseDir(h.Dir, name, user),
		keypaths.AppDir(h.Dir, name, user),
	}
}

func sortedKeys(m map[string][]byte) []string { return slices.Sorted(maps.Keys(m)) }

// write writes one file, in place unless h.Rename is set.
func (h Home) write(path string, content []byte, mode os.FileMode) error {
	if h.Before != nil {
		if err := h.Before(path); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return err
	}
	if h.Rename {
		return writeRename(path, content, mode)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if h.Torn != nil {
		half := len(content) / 2
		if _, err := f.Write(content[:half]); err != nil {
			_ = f.Close() // the write's error tells more
			return err
		}
		h.Torn(path)
		content = content[half:]
	}
	if _, err := f.Write(content); err != nil {
		_ = f.Close() // the write's error tells more
		return err
	}
	return f.Close()
}

// writeRename writes a file beside path and renames it over path.
func writeRename(path string, content []byte, mode os.FileMode) error {
	temp := path + ".tmp"
	if err := os.WriteFile(temp, content, mode); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
