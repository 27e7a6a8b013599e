package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	mfav1 "github.com/gravitational/teleport/api/gen/proto/go/teleport/mfa/v1"
)

// Factors are the second factors that the user can show for a session.
type Factors struct {
	Code bool // a one-time code, which berth asks for
	Key  bool // a security key or another device, which only tsh can talk to
}

// What the auth service says to a one-time code, or to none.
var (
	ErrCodeNeeded = errors.New("the cluster asks for a one-time code for each session")
	ErrWrongCode  = errors.New("the one-time code is wrong")
	ErrUsedCode   = errors.New("the one-time code was used before; wait for the next one")
)

// verifiedLead is how long before its end a cert that took a code should be
// replaced: each new one takes another code.
const verifiedLead = time.Minute

// factorsTTL is how long the answer of Factors is believed: each call is a line
// in the cluster's audit log.
const factorsTTL = 5 * time.Minute

// Factors asks the auth service how the user can meet a challenge.
func (c *Cluster) Factors(ctx context.Context) (Factors, error) {
	return c.factors.get(c.root, factorsTTL, func() (Factors, error) {
		var challenge *proto.MFAAuthenticateChallenge
		err := c.call(context.WithoutCancel(ctx), c.root, "ask how to meet an MFA challenge", func(ctx context.Context, clt *client.Client) (err error) {
			challenge, err = clt.CreateAuthenticateChallenge(ctx, &proto.CreateAuthenticateChallengeRequest{
				Request:             &proto.CreateAuthenticateChallengeRequest_ContextUser{ContextUser: &proto.ContextUser{}},
				ChallengeExtensions: &mfav1.ChallengeExtensions{Scope: mfav1.ChallengeScope_CHALLENGE_SCOPE_USER_SESSION},
			})
			return err
		})
		if err != nil {
			return Factors{}, err
		}
		return Factors{
			Code: challenge.GetTOTP() != nil,
			Key:  challenge.GetWebauthnChallenge() != nil || challenge.GetSSOChallenge() != nil,
		}, nil
	})
}

// Verified returns the cert for the route that a one-time code has brought, and
// ErrCodeNeeded when there is none, or only one that is about to end.
func (c *Cluster) Verified(r target) (*Cert, error) {
	now := time.Now()
	cert := c.certs.get(r)
	switch {
	case cert == nil || !cert.verified || !now.Before(cert.ValidUntil()):
		return nil, ErrCodeNeeded
	case !now.Before(cert.RefreshAt):
		return cert, ErrCodeNeeded
	default:
		return cert, nil
	}
}

// Verify fetches a cert for the route with a one-time code, which Verified
// returns from then on. Teleport takes each code for one cert.
func (c *Cluster) Verify(ctx context.Context, r target, code string) error {
	cert, err := c.mint(ctx, r, code)
	if err != nil {
		return codeError(err)
	}
	c.certs.put(r, cert)
	return nil
}

// codeError says what the auth service's words about a code mean.
func codeError(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "previously used totp token"):
		return fmt.Errorf("%w (%w)", ErrUsedCode, err)
	case strings.Contains(text, "invalid totp token"), strings.Contains(text, "invalid one time token"):
		return fmt.Errorf("%w (%w)", ErrWrongCode, err)
	default:
		return err
	}
}

// verify puts a one-time code into a request for a cert.
func verify(req *proto.UserCertsRequest, code string) {
	req.Purpose = proto.UserCertsRequest_CERT_PURPOSE_SINGLE_USE_CERTS
	req.MFAResponse = &proto.MFAAuthenticateResponse{
		Response: &proto.MFAAuthenticateResponse_TOTP{TOTP: &proto.TOTPResponse{Code: code}},
	}
}
