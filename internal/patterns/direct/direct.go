// Package direct talks to a cluster by gRPC with messages of its own, which are
// those of Teleport as far as they are used. Nothing of Teleport's code is
// linked: see package authpb.
package direct

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"berth/internal/patterns"
	"berth/internal/patterns/direct/authpb"
)

// Features are what this way can do.
var Features = patterns.Features{Push: true, TypedErrors: true, Codes: true}

const (
	// inCluster is the name that every auth service's certificate has.
	inCluster = "teleport.cluster.local"
	// callTimeout bounds one call.
	callTimeout = 10 * time.Second
	// pageSize is how many resources one answer may have.
	pageSize = 1000
	// keepAlive is how often a silent connection is tried, and tryTimeout how
	// long the answer may take.
	keepAlive, tryTimeout = time.Minute, 10 * time.Second
)

type backend struct {
	login

	conn *grpc.ClientConn
	auth authpb.AuthServiceClient
}

// Open returns a backend for the current profile of the home. The first call
// connects.
func Open(_ context.Context, cfg patterns.Config) (patterns.Backend, error) {
	l, err := readLogin(cfg.Home)
	if err != nil {
		return nil, err
	}
	// The proxy passes a TLS connection on to the auth service that its ALPN
	// names, so the certificate that is verified here is that service's.
	conn, err := grpc.NewClient("passthrough:///"+l.proxy, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{l.cert}, RootCAs: l.hostCAs, ServerName: inCluster, MinVersion: tls.VersionTLS12,
		NextProtos: []string{"teleport-auth@" + hex.EncodeToString([]byte(l.cluster)) + "." + inCluster, "h2"},
	})), grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepAlive, Timeout: tryTimeout, PermitWithoutStream: true}))
	if err != nil {
		return nil, err
	}
	return &backend{login: l, conn: conn, auth: authpb.NewAuthServiceClient(conn)}, nil
}

func (b *backend) Close() error { return b.conn.Close() }

// typed says which of the errors of package patterns an error is.
func (b *backend) typed(err error) error {
	switch code := status.Code(err); {
	case err == nil:
		return nil
	case !time.Now().Before(b.until): // a connection then fails in many ways
		return fmt.Errorf("%w: %w", patterns.ErrExpired, err)
	case code == codes.PermissionDenied, code == codes.Unauthenticated:
		return fmt.Errorf("%w: %w", patterns.ErrDenied, err)
	case code == codes.Unavailable, code == codes.DeadlineExceeded:
		return fmt.Errorf("%w: %w", patterns.ErrUnreachable, err)
	default:
		return err
	}
}

func (b *backend) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := b.auth.Ping(ctx, &authpb.PingRequest{})
	return b.typed(err)
}

func (b *backend) Databases(ctx context.Context) ([]patterns.Database, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var dbs []patterns.Database
	ask := &authpb.ListResourcesRequest{ResourceType: "db_server", Namespace: "default", Limit: pageSize}
	for {
		page, err := b.auth.ListResources(ctx, ask)
		if status.Code(err) == codes.ResourceExhausted && ask.Limit > 1 {
			ask.Limit /= 2 // the answer is too large for one message
			continue
		}
		if err != nil {
			return nil, b.typed(err)
		}
		for _, r := range page.GetResources() {
			db := r.GetDatabaseServer().GetSpec().GetDatabase()
			dbs = append(dbs, patterns.Database{Name: db.GetMetadata().GetName(), Protocol: db.GetSpec().GetProtocol()})
		}
		if ask.StartKey = page.GetNextKey(); ask.StartKey == "" {
			break
		}
	}
	// Each service that carries a database lists it.
	byName := func(a, b patterns.Database) int { return strings.Compare(a.Name, b.Name) }
	slices.SortStableFunc(dbs, byName)
	return slices.CompactFunc(dbs, func(a, b patterns.Database) bool { return a.Name == b.Name }), nil
}

func (b *backend) Requests(ctx context.Context) ([]patterns.Request, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	stream, err := b.auth.GetAccessRequestsV2(ctx, &authpb.AccessRequestFilter{User: b.user})
	if err != nil {
		return nil, b.typed(err)
	}
	var own []patterns.Request
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return own, nil
		}
		if err != nil {
			return nil, b.typed(err)
		}
		own = append(own, request(r))
	}
}

func request(r *authpb.AccessRequestV3) patterns.Request {
	spec := r.GetSpec()
	return patterns.Request{
		ID: r.GetMetadata().GetName(), User: spec.GetUser(), Roles: spec.GetRoles(), Reason: spec.GetRequestReason(),
		State: patterns.StateOf(int(spec.GetState())),
	}
}

func (b *backend) WatchRequests(ctx context.Context, handle func(patterns.Request)) error {
	ctx, cancel := context.WithDeadline(ctx, b.until) // the server lets it go on
	defer cancel()
	stream, err := b.auth.WatchEvents(ctx, &authpb.Watch{Kinds: []*authpb.WatchKind{{
		Kind: "access_request", Filter: map[string]string{"user": b.user},
	}}})
	if err != nil {
		return b.typed(err)
	}
	for {
		ev, err := stream.Recv()
		switch {
		case err != nil:
			return b.typed(err)
		case ev.GetType() == authpb.Operation_INIT: // from here on nothing is missed
			list, err := b.Requests(ctx)
			if err != nil {
				return err
			}
			for _, r := range list {
				handle(r)
			}
		case ev.GetType() == authpb.Operation_PUT && ev.GetAccessRequest() != nil:
			handle(request(ev.GetAccessRequest()))
		}
	}
}

func (b *backend) MintDB(ctx context.Context, to patterns.Route) (*tls.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	sshPub, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	ask := &authpb.UserCertsRequest{
		PublicKey:       ssh.MarshalAuthorizedKey(sshPub), // v16 reads no other
		SSHPublicKey:    ssh.MarshalAuthorizedKey(sshPub),
		TLSPublicKey:    pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		Username:        b.user,
		Expires:         timestamppb.New(b.until),
		RouteToCluster:  b.cluster,
		RouteToDatabase: &authpb.RouteToDatabase{ServiceName: to.Database, Protocol: to.Protocol, Username: to.User, Database: to.Name},
		Usage:           authpb.UserCertsRequest_Database,
		RequesterName:   authpb.UserCertsRequest_TSH_DB_LOCAL_PROXY_TUNNEL,
	}
	if to.Code != "" {
		ask.Purpose = authpb.UserCertsRequest_CERT_PURPOSE_SINGLE_USE_CERTS
		ask.MFAResponse = &authpb.MFAAuthenticateResponse{
			Response: &authpb.MFAAuthenticateResponse_TOTP{TOTP: &authpb.TOTPResponse{Code: to.Code}},
		}
	}
	certs, err := b.auth.GenerateUserCerts(ctx, ask)
	if err != nil {
		return nil, b.typed(err)
	}
	ec, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	// This checks that the certificate is for the key.
	cert, err := tls.X509KeyPair(certs.GetTLS(), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: ec}))
	return &cert, err
}
