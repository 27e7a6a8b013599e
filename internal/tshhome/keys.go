package tshhome

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gofrs/flock"
	"github.com/gravitational/teleport/api/utils/keys"
)

// SetKeys puts the keys into c as tsh encodes them for the layout: RSA as
// PKCS#1, others as PKCS#8, and for SSH alone in OpenSSH's format. With V16
// there is one key for both and sshKey is ignored.
func (c *Credentials) SetKeys(layout Layout, tlsKey, sshKey crypto.Signer) error {
	tlsPriv, err := keys.NewSoftwarePrivateKey(tlsKey)
	if err != nil {
		return fmt.Errorf("encode TLS key: %w", err)
	}
	c.TLSKey = tlsPriv.PrivateKeyPEM()
	if layout == V16 {
		c.SSHKey, c.SSHPub = c.TLSKey, tlsPriv.MarshalSSHPublicKey()
		return nil
	}
	sshPriv, err := keys.NewSoftwarePrivateKey(sshKey)
	if err != nil {
		return fmt.Errorf("encode SSH key: %w", err)
	}
	if c.SSHKey, err = sshPriv.MarshalSSHPrivateKey(); err != nil {
		return fmt.Errorf("encode SSH key: %w", err)
	}
	c.SSHPub = sshPriv.MarshalSSHPublicKey()
	return nil
}

// How long tsh waits for another process's lock on a key, and how often it
// looks.
const (
	lockWait  = 200 * time.Millisecond
	lockRetry = 50 * time.Millisecond
)

// withKeyLock runs write under the advisory lock that v17's tsh takes on a key
// file while it writes the key and the certificate beside it.
func withKeyLock(keyPath string, write func() error) (err error) {
	if err := os.MkdirAll(filepath.Dir(keyPath), dirMode); err != nil {
		return err
	}
	lockPath := keyPath
	if runtime.GOOS == "windows" { // where a locked file cannot be written
		lockPath += ".lock"
	}
	ctx, cancel := context.WithTimeout(context.Background(), lockWait)
	defer cancel()
	lock := flock.New(lockPath, flock.SetPermissions(keyMode))
	if _, err := lock.TryLockContext(ctx, lockRetry); err != nil {
		return fmt.Errorf("lock %q: %w", lockPath, err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	return write()
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

// joinName joins dir and a file name; a name with separators stays one name,
// as tsh cleans it.
func joinName(dir, name string) string { return filepath.Join(dir, filepath.Base(name)) }
