package simcluster

import (
	"crypto"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/utils/keys"
	"golang.org/x/crypto/ssh"
)

// LoginRequest asks the web API for a session's certs: what tsh sends for a
// password login, and what it begins a single sign-on with.
type LoginRequest struct {
	User     string        `json:"user"`
	Password string        `json:"password"`
	OTPToken string        `json:"otp_token"`
	PubKey   []byte        `json:"pub_key,omitempty"` // v16: one key for both, authorized_keys form
	SSHKey   []byte        `json:"ssh_pub_key,omitempty"`
	TLSKey   []byte        `json:"tls_pub_key,omitempty"` // PEM
	TTL      time.Duration `json:"ttl"`

	RedirectURL string `json:"redirect_url,omitempty"` // single sign-on: where tsh listens
	ConnectorID string `json:"connector_id,omitempty"`
}

// LoginResponse has the certs of a session, and the CAs to trust.
type LoginResponse struct {
	Username    string       `json:"username"`
	Cert        []byte       `json:"cert"`     // SSH
	TLSCert     []byte       `json:"tls_cert"` // PEM
	HostSigners []HostSigner `json:"host_signers"`
}

// HostSigner is the host CA of one cluster.
type HostSigner struct {
	ClusterName  string   `json:"domain_name"`
	CheckingKeys [][]byte `json:"checking_keys"` // known_hosts lines
	TLSCerts     [][]byte `json:"tls_certs"`
}

// takesOTP reports whether a login's one-time code is right.
func (c *Cluster) takesOTP(u User, code string) bool {
	if u.LoginTOTP {
		return c.checkTOTP(u.Name, code) == nil
	}
	return u.OTP == code
}

// handlePasswordLogin logs a local user in.
func (c *Cluster) handlePasswordLogin(w http.ResponseWriter, r *http.Request) {
	var req LoginRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&req); err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	u, ok := c.user(req.User)
	if !ok || u.Password == "" || u.Password != req.Password || !c.takesOTP(u, req.OTPToken) {
		c.counters.failedLogins.Add(1)
		writeError(w, http.StatusForbidden, errBadLogin.Error())
		return
	}
	if r := c.refusalOf(u.Name); r != nil {
		writeError(w, http.StatusForbidden, r.login)
		return
	}
	resp, err := c.answerLogin(u, req)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, resp)
}

// answerLogin issues the certs of a login that was let through.
func (c *Cluster) answerLogin(u User, req LoginRequest) (LoginResponse, error) {
	tlsKey, sshKey, err := req.publicKeys()
	if err != nil {
		return LoginResponse{}, err
	}
	certs, err := c.login(u, req.TTL, tlsKey, sshKey)
	if err != nil {
		return LoginResponse{}, err
	}
	return LoginResponse{
		Username:    u.Name,
		Cert:        certs.ssh,
		TLSCert:     certs.tls,
		HostSigners: c.hostSigners(),
	}, nil
}

func (req LoginRequest) publicKeys() (crypto.PublicKey, ssh.PublicKey, error) {
	if req.PubKey != nil {
		sshKey, err := parseAuthorizedKey(req.PubKey)
		if err != nil {
			return nil, nil, err
		}
		tlsKey, err := publicKeyOf(sshKey)
		return tlsKey, sshKey, err
	}
	sshKey, err := parseAuthorizedKey(req.SSHKey)
	if err != nil {
		return nil, nil, err
	}
	tlsKey, err := keys.ParsePublicKey(req.TLSKey)
	return tlsKey, sshKey, err
}

// hostSigners returns the host CAs of all clusters there are now; a leaf that
// joins later is in none of the homes written before.
func (c *Cluster) hostSigners() []HostSigner {
	var signers []HostSigner
	for _, s := range c.trustedBy(c.root) {
		signers = append(signers, HostSigner{
			ClusterName:  s.name,
			CheckingKeys: [][]byte{[]byte(s.knownHosts())},
			TLSCerts:     [][]byte{s.trust.Load().hostCA.pem},
		})
	}
	return signers
}

// invalidConnector says which connectors there are; without any, it names none.
func (c *Cluster) invalidConnector(name string) error {
	var valid []string
	for _, cn := range c.cfg.Connectors {
		valid = append(valid, cn.Name)
	}
	return fmt.Errorf("invalid connector name: %s; valid options: %s", name, strings.Join(valid, ", "))
}
