package direct

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// login is what a home holds of its current profile.
type login struct {
	proxy, user, cluster string
	cert                 tls.Certificate
	hostCAs              *x509.CertPool
	until                time.Time
}

// readLogin reads a home as tsh leaves it at rest, in the layout of v17 or of
// the versions before. A key that lives in hardware cannot be used.
func readLogin(home string) (login, error) {
	name, err := os.ReadFile(filepath.Join(home, "current-profile"))
	if err != nil {
		return login{}, err
	}
	host := strings.TrimSpace(string(name))
	text, err := os.ReadFile(filepath.Join(home, host+".yaml"))
	if err != nil {
		return login{}, err
	}
	var profile struct {
		Proxy string `yaml:"web_proxy_addr"`
		User  string `yaml:"user"`
	}
	if err := yaml.Unmarshal(text, &profile); err != nil {
		return login{}, fmt.Errorf("read profile %s: %w", host, err)
	}
	l := login{proxy: profile.Proxy, user: profile.User, hostCAs: x509.NewCertPool()}
	keys := filepath.Join(home, "keys", host)
	own := filepath.Join(keys, l.user)
	l.cert, err = tls.LoadX509KeyPair(own+".crt", own+".key")
	if errors.Is(err, fs.ErrNotExist) {
		l.cert, err = tls.LoadX509KeyPair(own+"-x509.pem", own)
	}
	if err != nil {
		return login{}, err
	}
	l.cluster = l.cert.Leaf.Issuer.CommonName // whose user CA signed it: the root
	l.until = l.cert.Leaf.NotAfter
	cas, err := os.ReadFile(filepath.Join(keys, "cas", l.cluster+".pem"))
	if err != nil {
		return login{}, err
	}
	if !l.hostCAs.AppendCertsFromPEM(cas) {
		return login{}, fmt.Errorf("no CA of cluster %s in %s", l.cluster, home)
	}
	return l, nil
}
