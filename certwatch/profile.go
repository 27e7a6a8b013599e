package certwatch

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Profile is one proxy's entry in a home. It is immutable and shared: a
// Profile that did not change is the same pointer in the next View, and so is
// its Session.
type Profile struct {
	Home    string // absolute
	Name    string // the proxy's host, without port: the file name without .yaml
	Current bool   // whether it is the home's current profile

	ProxyAddr           string // host:port of the Proxy Service
	User                string
	Cluster             string // the selected cluster: the root, or a leaf
	RootCluster         string // from the certificate; empty when there is no session
	AuthConnector       string
	MFAMode             string
	PrivateKeyPolicy    string
	TLSRoutingEnabled   bool
	ConnUpgradeRequired bool

	Session *Session // nil means logged out, Settling, or a Problem
	// Settling says that the files were being written when they were first
	// seen, so nothing is known yet: the next View will tell.
	Settling bool
	// Problem is why the files, although nothing writes them any more, do not
	// make a whole session. Nil means that all is well. With a Session beside
	// it, that session works by its X.509 certificate.
	Problem error
}

// ProfileID is a profile's identity: the same proxy may be in several homes.
type ProfileID struct {
	Home string // absolute
	Name string // the proxy's host, without port
}

// ID returns the profile's identity.
func (p *Profile) ID() ProfileID { return ProfileID{Home: p.Home, Name: p.Name} }

// LogValue describes the profile; it shows no key.
func (p Profile) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("home", p.Home),
		slog.String("profile", p.Name),
		slog.String("cluster", p.Cluster),
	}
	if p.Session != nil {
		attrs = append(attrs, slog.Any("session", *p.Session))
	}
	if p.Problem != nil {
		attrs = append(attrs, slog.Any("err", p.Problem))
	}
	return slog.GroupValue(attrs...)
}

// View is all that is known of the watched homes at one moment. It is
// immutable.
type View struct {
	Profiles     []*Profile    // by home in the given order, then by name
	HomeProblems []HomeProblem // absence means healthy; a home that does not exist is healthy and empty
	ReadAt       time.Time     // when the homes were last read
	WokeAt       time.Time     // when the computer was last seen to have slept or had its clock set; zero means never
}

// HomeProblem says why a home cannot be read.
type HomeProblem struct {
	Home string
	Err  error
}

// DefaultHome returns the home that tsh uses: $TELEPORT_HOME, else ~/.tsh.
func DefaultHome() (string, error) {
	if home := os.Getenv("TELEPORT_HOME"); home != "" {
		return filepath.Abs(home)
	}
	user, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the default TELEPORT_HOME: %w", err)
	}
	return filepath.Join(user, ".tsh"), nil
}

// profileFile holds the keys that are read of a profile's yaml file.
type profileFile struct {
	WebProxyAddr        string `yaml:"web_proxy_addr"`
	User                string `yaml:"user"`
	Cluster             string `yaml:"cluster"`
	TLSRoutingEnabled   bool   `yaml:"tls_routing_enabled"`
	ConnUpgradeRequired bool   `yaml:"tls_routing_conn_upgrade_required"`
	AuthConnector       string `yaml:"auth_connector"`
	MFAMode             string `yaml:"mfa_mode"`
	PrivateKeyPolicy    string `yaml:"private_key_policy"`
}

// parseProfile reads a profile's yaml. Unknown fields, and known ones of an
// unknown type, are left to newer versions of tsh.
func parseProfile(data []byte) (profileFile, error) {
	var f profileFile
	if len(bytes.TrimSpace(data)) == 0 {
		return f, errors.New("it is empty")
	}
	var wrongTypes *yaml.TypeError
	if err := yaml.Unmarshal(data, &f); err != nil && !errors.As(err, &wrongTypes) {
		return profileFile{}, err
	}
	switch {
	case f.WebProxyAddr == "":
		return f, errors.New("web_proxy_addr is missing")
	case f.User == "":
		return f, errors.New("user is missing")
	case !isFileName(f.User):
		return f, fmt.Errorf("user %q cannot be a file name", f.User)
	}
	return f, nil
}

// isFileName reports whether name, joined to a folder, stays one name in it.
func isFileName(name string) bool {
	return filepath.IsLocal(name) && name != "." && !strings.ContainsAny(name, `/\`) &&
		!strings.ContainsRune(name, 0)
}

// profile returns the values of f as the profile of home that it names.
func (f profileFile) profile(home, name string) Profile {
	return Profile{
		Home:                home,
		Name:                name,
		ProxyAddr:           f.WebProxyAddr,
		User:                f.User,
		Cluster:             f.Cluster,
		AuthConnector:       f.AuthConnector,
		MFAMode:             f.MFAMode,
		PrivateKeyPolicy:    f.PrivateKeyPolicy,
		TLSRoutingEnabled:   f.TLSRoutingEnabled,
		ConnUpgradeRequired: f.ConnUpgradeRequired,
	}
}
