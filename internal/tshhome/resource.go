package tshhome

import (
	"errors"
	"fmt"

	"github.com/gravitational/teleport/api/utils/keypaths"
)

// DBLogin writes what "tsh db login" writes: the session again, with the
// same bytes, and the database's certificate. In the V16 layout key is unused:
// the certificate is for the user's own key.
func (h Home) DBLogin(p Profile, c Credentials, cluster, db string, cert, key []byte) error {
	if err := h.writeKeys(p, c); err != nil {
		return fmt.Errorf("log in to database %q: %w", db, err)
	}
	if err := h.writeDBCert(p, cluster, db, cert, key); err != nil {
		return fmt.Errorf("log in to database %q: %w", db, err)
	}
	if err := h.writeCAs(p, c); err != nil {
		return fmt.Errorf("log in to database %q: %w", db, err)
	}
	return nil
}

func (h Home) writeDBCert(p Profile, cluster, db string, cert, key []byte) error {
	if h.Layout == V16 {
		return h.write(h.DBCertPath(p, cluster, db), cert, keyMode)
	}
	path := h.DBKeyPath(p, cluster, db)
	return withKeyLock(path, func() error {
		if err := h.write(path, key, keyMode); err != nil {
			return err
		}
		return h.write(h.DBCertPath(p, cluster, db), cert, keyMode)
	})
}

// DBCertPath returns the path of a database's certificate.
func (h Home) DBCertPath(p Profile, cluster, db string) string {
	if h.Layout == V16 {
		dir := keypaths.DatabaseCredentialDir(h.Dir, p.Name(), p.User, cluster)
		return joinName(dir, db+keypaths.FileExtTLSCertLegacy)
	}
	return keypaths.DatabaseCertPath(h.Dir, p.Name(), p.User, cluster, db)
}

// DBKeyPath returns the path of the key that a database's certificate is for.
func (h Home) DBKeyPath(p Profile, cluster, db string) string {
	if h.Layout == V16 {
		return keypaths.UserSSHKeyPath(h.Dir, p.Name(), p.User)
	}
	return keypaths.DatabaseKeyPath(h.Dir, p.Name(), p.User, cluster, db)
}

// DBLogout removes a database's certificate, and in the V17 layout its key.
func (h Home) DBLogout(p Profile, cluster, db string) error {
	err := h.remove(h.DBCertPath(p, cluster, db))
	if h.Layout == V17 {
		err = errors.Join(err, h.remove(h.DBKeyPath(p, cluster, db)))
	}
	if err != nil {
		return fmt.Errorf("log out of database %q: %w", db, err)
	}
	return nil
}

// KubeLogin writes what "tsh kube login" writes in the home: the session once
// more, with the same bytes, and the Kubernetes cluster's certificate. In the
// V16 layout key is unused.
func (h Home) KubeLogin(p Profile, c Credentials, cluster, kube string, cert, key []byte) error {
	dir := keypaths.KubeCredentialDir(h.Dir, p.Name(), p.User, cluster)
	path, content := joinName(dir, kube+keypaths.FileExtTLSCertLegacy), cert
	if h.Layout == V17 {
		path = keypaths.KubeCredPath(h.Dir, p.Name(), p.User, cluster, kube)
		content = append(append(append([]byte{}, key...), '\n'), cert...)
	}
	err := h.writeKeys(p, c)
	if err == nil {
		err = h.write(path, content, keyMode)
	}
	if err == nil {
		err = h.writeCAs(p, c)
	}
	if err != nil {
		return fmt.Errorf("log in to kubernetes cluster %q: %w", kube, err)
	}
	return nil
}
