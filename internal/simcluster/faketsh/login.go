package faketsh

import (
	"bufio"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/identityfile"
	"github.com/gravitational/teleport/api/utils/keys"
	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"berth/internal/simcluster"
	"berth/internal/tshhome"
)

// login is "tsh login [LEAF]".
func (t *tsh) login(ctx context.Context) error {
	home, err := t.home()
	if err != nil {
		return err
	}
	addr := t.flag("proxy", "TELEPORT_PROXY")
	p, err := loadProfile(home, profileName(addr))
	known := err == nil
	switch {
	case !known && addr == "":
		return errNoProxy
	case !known && !errors.Is(err, errNotLoggedIn):
		return err
	case addr == "":
		addr = p.WebProxyAddr
	}
	addr = withPort(addr)
	t.warnInsecure(addr)
	if known && t.flags["out"] == "" {
		if s, err := loadSession(home, p); err == nil && s.valid() && p.WebProxyAddr == addr {
			return t.loginAgain(ctx, s)
		}
	}
	user := t.flag("user", "TELEPORT_USER")
	if user == "" {
		user = p.User
	}
	s, err := t.fullLogin(ctx, home, addr, user)
	if err != nil {
		return err
	}
	if out := t.flags["out"]; out != "" {
		return t.writeIdentity(s, out)
	}
	if err := home.Login(s.profile, s.creds); err != nil {
		return err
	}
	if id := t.flags["request-id"]; id != "" {
		if s, err = loadSession(home, s.profile); err == nil {
			err = t.assume(ctx, s, id)
		}
		if err != nil {
			return err
		}
	}
	return t.printStatus(s)
}

func (t *tsh) warnInsecure(addr string) {
	if t.flags.on("insecure") {
		fmt.Fprintf(t.stderr, "WARNING: You are using insecure connection to Teleport proxy https://%s\n", addr)
	}
}

// loginAgain is a login while the session is valid: it asks nothing.
func (t *tsh) loginAgain(ctx context.Context, s *session) error {
	if _, err := t.ping(ctx, s.profile.WebProxyAddr, ""); err != nil {
		return err
	}
	switch user := t.flags["user"]; {
	case user != "" && user != s.profile.User:
		// Another user's name with a valid session: the profile is left
		// pointing at a user who has no keys.
		s.profile.User = user
		if err := s.home.Touch(s.profile); err != nil {
			return err
		}
		other, err := loadSession(s.home, s.profile)
		if err != nil {
			return err
		}
		return t.printStatus(other)
	case t.flags["request-id"] != "":
		if err := t.assume(ctx, s, t.flags["request-id"]); err != nil {
			return err
		}
	case len(t.words) > 0:
		if err := t.selectCluster(ctx, s, t.words[0]); err != nil {
			return err
		}
	case t.flags["proxy"] != "":
		if err := s.home.Touch(s.profile); err != nil {
			return err
		}
	}
	// What is printed is the state from before an assume.
	return t.printStatus(s)
}

// fullLogin runs the whole ceremony, and stores nothing.
func (t *tsh) fullLogin(ctx context.Context, home tshhome.Home, addr, user string) (*session, error) {
	p, err := t.ping(ctx, addr, t.flag("auth", "TELEPORT_AUTH"))
	if err != nil {
		return nil, err
	}
	ttl, err := t.ttl()
	if err != nil {
		return nil, err
	}
	tlsKey, sshKey, err := t.newKeys(home.Layout)
	if err != nil {
		return nil, err
	}
	req, err := loginRequest(home.Layout, tlsKey, sshKey)
	if err != nil {
		return nil, err
	}
	req.TTL, req.User = ttl, user
	resp, err := t.ceremony(ctx, addr, p, req)
	if err != nil {
		return nil, err
	}
	s := &session{home: home, creds: simcluster.NewCredentials(*resp, p.ClusterName)}
	if err := s.creds.SetKeys(home.Layout, tlsKey, sshKey); err != nil {
		return nil, err
	}
	s.profile = t.newProfile(ctx, addr, p, resp.Username)
	return s, s.parse()
}

// ceremony lets the user prove who they are.
func (t *tsh) ceremony(ctx context.Context, addr string, p *ping, req simcluster.LoginRequest) (*simcluster.LoginResponse, error) {
	if name := p.connector(); name != "" {
		if user := t.flag("user", "TELEPORT_USER"); user != "" {
			fmt.Fprintf(t.stderr, "WARNING: Ignoring Teleport user (%s) for Single Sign-On (SSO) login.\n", user)
		}
		req.User, req.ConnectorID = "", name
		return t.singleSignOn(ctx, addr, p.Auth.Type, req)
	}
	if req.User == "" {
		req.User = t.osUser()
	}
	var err error
	if req.Password, err = t.readSecret(fmt.Sprintf("Enter password for Teleport user %s:", req.User)); err != nil {
		return nil, err
	}
	if p.Auth.SecondFactor == "otp" {
		if req.OTPToken, err = t.readSecret("Enter your OTP token:"); err != nil {
			return nil, err
		}
	}
	var resp simcluster.LoginResponse
	if err := t.web(ctx, addr, "/webapi/ssh/certs", req, &resp); err != nil {
		return nil, err
	}
	return &resp, nil
}

func (t *tsh) osUser() string {
	for _, key := range []string{"USER", "LOGNAME", "USERNAME"} {
		if u := t.env[key]; u != "" {
			return u
		}
	}
	return "root"
}

// readSecret prompts for a secret. Only a terminal will do.
func (t *tsh) readSecret(prompt string) (string, error) {
	file, ok := t.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return "", errors.New("cannot perform password login without a terminal\n\tunderlying reader is not a terminal")
	}
	restore, err := echoOff(int(file.Fd())) // before anyone can know that it is time to type
	if err != nil {
		return "", err
	}
	defer restore()
	fmt.Fprintln(t.stderr, prompt)
	secret, err := term.ReadPassword(int(file.Fd()))
	return string(secret), err
}

func (t *tsh) ttl() (time.Duration, error) {
	s := t.flags["ttl"]
	if s == "" {
		return 0, nil
	}
	minutes, err := strconv.Atoi(s)
	if err != nil || minutes < 0 {
		return 0, fmt.Errorf("invalid value %q for flag --ttl", s)
	}
	return time.Duration(minutes) * time.Minute, nil
}

// newKeys makes the keys of a login: one for both in the older layout.
func (t *tsh) newKeys(layout tshhome.Layout) (tlsKey, sshKey crypto.Signer, err error) {
	kind := simcluster.KeyKind(t.env["BERTH_FAKE_TSH_KEY"])
	if kind == "" {
		kind = simcluster.RSA
		if layout == tshhome.V17 {
			kind = simcluster.ECDSA
		}
	}
	if tlsKey, err = simcluster.NewKey(kind); err != nil || layout == tshhome.V16 {
		return tlsKey, tlsKey, err
	}
	sshKey, err = simcluster.NewKey(simcluster.Ed25519)
	return tlsKey, sshKey, err
}

func loginRequest(layout tshhome.Layout, tlsKey, sshKey crypto.Signer) (simcluster.LoginRequest, error) {
	var req simcluster.LoginRequest
	pub, err := ssh.NewPublicKey(sshKey.Public())
	if err != nil {
		return req, err
	}
	if layout == tshhome.V16 {
		req.PubKey = ssh.MarshalAuthorizedKey(pub)
		return req, nil
	}
	req.SSHKey = ssh.MarshalAuthorizedKey(pub)
	req.TLSKey, err = keys.MarshalPublicKey(tlsKey.Public())
	return req, err
}

func (t *tsh) newProfile(ctx context.Context, addr string, p *ping, user string) tshhome.Profile {
	auth := p.connector()
	if auth == "" {
		auth = "local"
	}
	mfa := t.flag("mfa-mode", "TELEPORT_MFA_MODE")
	if mfa == "" {
		mfa = "auto"
	}
	return tshhome.Profile{
		WebProxyAddr: addr, SSHProxyAddr: addr, KubeProxyAddr: addr,
		PostgresProxyAddr: addr, MySQLProxyAddr: addr,
		User: user, Cluster: p.ClusterName,
		TLSRoutingEnabled:   p.Proxy.TLSRoutingEnabled,
		ConnUpgradeRequired: t.upgradeRequired(ctx, addr),
		AuthConnector:       auth, MFAMode: mfa, PrivateKeyPolicy: simcluster.ProfilePolicy(p.Auth.PrivateKeyPolicy),
	}
}

// relogin logs in again from within another command.
func (t *tsh) relogin(ctx context.Context, s *session) (*session, error) {
	fresh, err := t.fullLogin(ctx, s.home, s.profile.WebProxyAddr, s.profile.User)
	if err != nil {
		return nil, err
	}
	if err := s.home.Login(fresh.profile, fresh.creds); err != nil {
		return nil, err
	}
	return fresh, nil
}

// writeIdentity writes a login as an identity file.
func (t *tsh) writeIdentity(s *session, path string) error {
	if _, err := os.Stat(path); err == nil && !t.flags.on("overwrite") {
		if !t.confirm(fmt.Sprintf("Destination file(s) exist: %s. Overwrite?", path)) {
			return fmt.Errorf("not overwriting destination files %q", path)
		}
	}
	id := &identityfile.IdentityFile{
		PrivateKey: s.creds.TLSKey,
		Certs:      identityfile.Certs{SSH: s.creds.SSHCerts[s.root()], TLS: s.creds.Cert},
	}
	for line := range strings.Lines(string(s.creds.KnownHosts)) {
		id.CACerts.SSH = append(id.CACerts.SSH, []byte(strings.TrimSpace(line)))
	}
	for _, ca := range s.creds.CAs {
		id.CACerts.TLS = append(id.CACerts.TLS, ca)
	}
	if err := identityfile.Write(id, path); err != nil {
		return err
	}
	fmt.Fprintf(t.stdout, "\nThe certificate has been written to %s\n", path)
	return nil
}

// confirm asks a yes or no on stdin; no answer means no.
func (t *tsh) confirm(question string) bool {
	fmt.Fprintf(t.stdout, "%s [y/N]: ", question)
	answer, err := bufio.NewReader(t.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}
