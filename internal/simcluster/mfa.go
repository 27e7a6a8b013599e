package simcluster

import (
	"cmp"
	"context"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	webauthnpb "github.com/gravitational/teleport/api/types/webauthn"
	"github.com/gravitational/trace"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"berth/certwatch"
)

// singleUseTTL is how long a cert lasts that took a second factor, unless a
// local proxy asks for it.
const singleUseTTL = time.Minute

// The ids of every user's devices.
const (
	totpDevice = "sim-totp"
	keyDevice  = "sim-key"
)

// VerifyByPIN in a challenge says that the security key wants its PIN. The answer
// has the PIN as its type, since there is no key to look at it.
const VerifyByPIN = "required"

// touchWait is how long a security key waits for a touch, unless its user says otherwise.
const touchWait = 5 * time.Second

// TouchKey touches the security key that is waited for, or that will be next.
func (c *Cluster) TouchKey() {
	select {
	case c.touched <- struct{}{}:
	default: // touched already
	}
}

func (c *Cluster) awaitTouch(ctx context.Context, wait time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(wait, touchWait))
	defer cancel()
	select {
	case <-c.touched:
		return true
	case <-ctx.Done():
		return false
	}
}

// CreateAuthenticateChallenge says how the caller may show a second factor.
func (a *authService) CreateAuthenticateChallenge(
	ctx context.Context, _ *proto.CreateAuthenticateChallengeRequest,
) (*proto.MFAAuthenticateChallenge, error) {
	who, err := a.caller(ctx)
	if err != nil {
		return nil, err
	}
	u, ok := a.c.user(who.identity.User)
	if a.site.root != nil || !ok {
		return nil, trace.AccessDenied("unable to create MFA challenges")
	}
	challenge := &proto.MFAAuthenticateChallenge{}
	if u.TOTP != "" {
		challenge.TOTP = &proto.TOTPChallenge{}
	}
	if u.SecurityKey {
		options := &webauthnpb.PublicKeyCredentialRequestOptions{}
		if u.SecurityKeyPIN != "" {
			options.UserVerification = VerifyByPIN
		}
		challenge.WebauthnChallenge = &webauthnpb.CredentialAssertion{PublicKey: options}
	}
	return challenge, nil
}

// secondFactor checks the second factor in a request for a cert, notes its
// device in the identity and returns the latest end of the cert, which is zero
// where there is none.
func (a *authService) secondFactor(ctx context.Context, id *certwatch.Identity, sessionEnd time.Time, req *proto.UserCertsRequest) (time.Time, error) {
	id.MFADeviceID, id.PreviousIdentityExpires = "", time.Time{}
	if answer := req.MFAResponse; answer != nil {
		switch code := answer.GetTOTP(); {
		case answer.GetWebauthn() != nil:
			u, _ := a.c.user(id.User)
			if answer.GetWebauthn().Type != u.SecurityKeyPIN || !a.c.awaitTouch(ctx, u.TouchWait) {
				return time.Time{}, trace.AccessDenied("failed to authenticate using available MFA devices")
			}
			id.MFADeviceID = keyDevice
		case code == nil:
			return time.Time{}, trace.BadParameter("unknown or missing MFAAuthenticateResponse type %T", answer.Response)
		default:
			if err := a.c.checkTOTP(id.User, code.Code); err != nil {
				return time.Time{}, err
			}
			id.MFADeviceID = totpDevice
		}
	}
	if req.Purpose != proto.UserCertsRequest_CERT_PURPOSE_SINGLE_USE_CERTS {
		return time.Time{}, nil
	}
	id.PreviousIdentityExpires = sessionEnd
	localProxy := req.Usage == proto.UserCertsRequest_Database && req.RequesterName == proto.UserCertsRequest_TSH_DB_LOCAL_PROXY_TUNNEL ||
		req.Usage == proto.UserCertsRequest_Kubernetes && req.RequesterName == proto.UserCertsRequest_TSH_KUBE_LOCAL_PROXY
	if localProxy {
		return time.Time{}, nil
	}
	return a.c.now().Add(singleUseTTL), nil
}

// checkTOTP takes each code once, as the auth service does: it remembers the
// last one.
func (c *Cluster) checkTOTP(user, code string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.usedTOTP[user] == code {
		return trace.BadParameter("previously used totp token")
	}
	ok, err := totp.ValidateCustom(code, c.users[user].TOTP, c.now(), totp.ValidateOpts{
		Period: 30, Skew: 1, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1,
	})
	if err != nil || !ok {
		return trace.AccessDenied("invalid totp token")
	}
	c.usedTOTP[user] = code
	return nil
}
