package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/gravitational/teleport/api/utils/keypaths"
)

// CertsConfig says which certificates Certs installs, and where.
type CertsConfig struct {
	Home      string
	ProxyHost string            // the profile's name
	User      string            // whose session it is
	Cert      []byte            // the TLS certificate, PEM
	SSHCerts  map[string][]byte // the SSH certificate for each cluster, in authorized_keys format

	// DropResources removes the certificates for single databases, Kubernetes
	// clusters and applications, and SSH certificates for clusters that are not
	// in SSHCerts: after access requests were dropped, they would carry on with
	// the roles given up.
	DropResources bool
	Logger        *slog.Logger // nil means no log
	// Before is as in Config.
	Before func(step string) error
}

// ErrChanged says that the home no longer holds the session for which the
// certificates were issued.
var ErrChanged = errors.New("the session there is another one by now")

// Certs installs certificates that were reissued for the keys of the session
// in the home: all of them, or nothing when it returns an error. The keys, the
// profile and all else stay as they are.
func Certs(ctx context.Context, cfg CertsConfig) error {
	return certs(ctx, cfg, &disk{before: cfg.Before})
}

func certs(ctx context.Context, cfg CertsConfig, d *disk) error {
	in, err := reissued(cfg)
	if err != nil {
		return fmt.Errorf("install certificates: %w", err)
	}
	in.disk = d
	if err := in.run(ctx); err != nil {
		return fmt.Errorf("install certificates of %q at %q: %w", in.user, in.profile, explain(in.home, err))
	}
	in.log.Info("certificates installed", "home", in.home, "profile", in.profile, "user", in.user)
	return nil
}

// reissued prepares the installation of certificates.
func reissued(cfg CertsConfig) (*installer, error) {
	home, err := realHome(cfg.Home)
	if err != nil {
		return nil, err
	}
	if !isName(cfg.ProxyHost) || !isUser(cfg.User) {
		return nil, fmt.Errorf("profile %q or user %q cannot be a file name", cfg.ProxyHost, cfg.User)
	}
	in := &installer{
		log: orDiscard(cfg.Logger), home: home, profile: cfg.ProxyHost, user: cfg.User,
		fresh: map[string][]byte{},
	}
	sshDir := in.user + sshSuffix
	for cluster, cert := range cfg.SSHCerts {
		if !isName(cluster) {
			return nil, fmt.Errorf("cluster %q cannot be a file name", cluster)
		}
		in.fresh[filepath.Join(sshDir, cluster+sshCertTail)] = cert
	}
	own := ownership{in.user}
	in.stays = func(path string, e entry) bool {
		return !cfg.DropResources || !own.resource(path, e) && !strings.HasPrefix(path, sshDir+string(filepath.Separator))
	}
	in.check = func(dir string) error { return in.checkReissued(dir, cfg) }
	return in, nil
}

// checkReissued checks that the certificates are for the session in dir.
func (in *installer) checkReissued(dir string, cfg CertsConfig) error {
	if err := in.checkProfile(cfg); err != nil {
		return err
	}
	old, err := readSession(dir, in.user)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.Join(ErrChanged, err)
	}
	if err != nil {
		return fmt.Errorf("the session there: %w", err)
	}
	fresh := &session{certName: old.certName, sshKey: old.sshKey}
	if err := fresh.setCert(cfg.Cert); err != nil {
		return err
	}
	switch {
	case fresh.identity.User != in.user:
		return &UserError{Want: in.user, Got: fresh.identity.User}
	case fresh.identity.TeleportCluster != old.identity.TeleportCluster:
		return fmt.Errorf("the certificate is of cluster %q, the session of %q", fresh.identity.TeleportCluster, old.identity.TeleportCluster)
	case !sameKey(old.cert.PublicKey, fresh.cert.PublicKey):
		return fmt.Errorf("the certificate is for another key: %w", ErrChanged)
	}
	for cluster, data := range cfg.SSHCerts {
		cert, err := fresh.parseSSH(cluster, data)
		if err != nil {
			return errors.Join(ErrChanged, err)
		}
		if cert.KeyId != in.user {
			return &UserError{Want: in.user, Got: cert.KeyId}
		}
	}
	in.fresh[old.certName] = cfg.Cert
	return nil
}

// checkProfile checks that the user is still the one logged in, and that the
// cluster selected keeps an SSH certificate of the same kind as the TLS one.
func (in *installer) checkProfile(cfg CertsConfig) error {
	data, err := os.ReadFile(keypaths.ProfileFilePath(in.home, in.profile))
	if err != nil {
		return errors.Join(ErrChanged, err)
	}
	profile, err := parseYAML(data)
	if err != nil {
		return err
	}
	if profile.User != in.user {
		return fmt.Errorf("%w: user %q has logged in", ErrChanged, profile.User)
	}
	if cfg.SSHCerts[profile.Cluster] == nil {
		return fmt.Errorf("the selected cluster %q gets no SSH certificate: have it reissued too", profile.Cluster)
	}
	return nil
}
