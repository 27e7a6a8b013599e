package faketsh

import (
	"context"
	"errors"
	"fmt"

	"github.com/gravitational/teleport/api/client/proto"
	webauthnpb "github.com/gravitational/teleport/api/types/webauthn"

	"berth/internal/simcluster"
)

// What tsh says when a second factor for a session is missing.
var (
	errNoFactor      = errors.New("MFA is required to access this resource but user has no MFA devices; use 'tsh mfa add' to register MFA devices")
	errFactorMissing = errors.New("failed to authenticate using available MFA devices, rerun the command with '-d' to see error details for each device")
)

// secondFactor shows the second factor that the cluster asks for; nil: none.
func (t *tsh) secondFactor(ctx context.Context, s *session, cluster string, route proto.RouteToDatabase) (*proto.MFAAuthenticateResponse, error) {
	clt, err := t.auth(ctx, s, cluster)
	if err != nil {
		return nil, err
	}
	defer clt.Close()
	mfa, err := clt.IsMFARequired(ctx, &proto.IsMFARequiredRequest{Target: &proto.IsMFARequiredRequest_Database{Database: &route}})
	if err != nil || !mfa.Required {
		return nil, err
	}
	challenge, err := clt.CreateAuthenticateChallenge(ctx, &proto.CreateAuthenticateChallengeRequest{})
	switch {
	case err != nil:
		return nil, err
	case challenge.WebauthnChallenge != nil:
		fmt.Fprintln(t.stderr, "Tap any security key")
		pin := ""
		if challenge.WebauthnChallenge.PublicKey.UserVerification == simcluster.VerifyByPIN {
			fmt.Fprintln(t.stderr, "Detected security key tap") // which chose it
			if pin, err = t.readSecret("Enter your security key PIN:"); err != nil {
				return nil, fmt.Errorf("%w\n\t%w", errFactorMissing, err)
			}
			fmt.Fprintln(t.stderr, "Tap your security key to complete login")
		}
		return &proto.MFAAuthenticateResponse{Response: &proto.MFAAuthenticateResponse_Webauthn{
			Webauthn: &webauthnpb.CredentialAssertionResponse{Type: pin},
		}}, nil
	case challenge.TOTP != nil:
		code, err := t.readSecret("Enter an OTP code from a device:")
		if err != nil {
			return nil, fmt.Errorf("%w\n\t%w", errFactorMissing, err)
		}
		return &proto.MFAAuthenticateResponse{Response: &proto.MFAAuthenticateResponse_TOTP{TOTP: &proto.TOTPResponse{Code: code}}}, nil
	default:
		return nil, errNoFactor
	}
}
