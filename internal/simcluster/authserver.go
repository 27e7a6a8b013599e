package simcluster

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	clusterconfigpb "github.com/gravitational/teleport/api/gen/proto/go/teleport/clusterconfig/v1"
	trustpb "github.com/gravitational/teleport/api/gen/proto/go/teleport/trust/v1"
	userspb "github.com/gravitational/teleport/api/gen/proto/go/teleport/users/v1"
	"github.com/gravitational/teleport/api/utils/grpc/interceptors"
	"github.com/gravitational/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
)

// authService is a cluster's auth service. What it does not implement answers
// Unimplemented, as an older server does to a newer client.
type authService struct {
	proto.UnimplementedAuthServiceServer
	site   *Site
	c      *Cluster
	server *grpc.Server
	conns  *handoff
	done   chan struct{}
}

func newAuthService(s *Site) *authService {
	a := &authService{site: s, c: s.c, conns: newHandoff(), done: make(chan struct{})}
	a.server = grpc.NewServer(
		grpc.Creds(handedOver{}),
		grpc.ChainUnaryInterceptor(interceptors.GRPCServerUnaryErrorInterceptor, a.unary),
		grpc.ChainStreamInterceptor(interceptors.GRPCServerStreamErrorInterceptor, a.stream),
		// Clients may ping as often as they like: tests make them.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: time.Millisecond, PermitWithoutStream: true,
		}),
	)
	proto.RegisterAuthServiceServer(a.server, a)
	trustpb.RegisterTrustServiceServer(a.server, trustService{a: a})
	userspb.RegisterUsersServiceServer(a.server, usersService{a: a})
	clusterconfigpb.RegisterClusterConfigServiceServer(a.server, clusterConfigService{a: a})
	go func() {
		defer close(a.done)
		_ = a.server.Serve(a.conns) // returns when stopped; there is nothing else it could tell
	}()
	return a
}

// serve serves a connection whose TLS handshake is done.
func (a *authService) serve(tc *tls.Conn) { a.conns.serve(tc) }

func (a *authService) stop() {
	a.server.Stop()
	_ = a.conns.Close()
	<-a.done
}

// unary counts a call, and applies the faults.
func (a *authService) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := a.called(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (a *authService) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := a.called(ss.Context(), info.FullMethod); err != nil {
		return err
	}
	return next(srv, ss)
}

func (a *authService) called(ctx context.Context, fullMethod string) error {
	method := fullMethod[strings.LastIndexByte(fullMethod, '/')+1:]
	a.c.counters.called(method)
	if who, err := a.caller(ctx); err == nil {
		if r := a.c.refusalOf(who.identity.User); r != nil {
			return r.call
		}
	}
	return a.c.faults.rpc(ctx, method)
}

// caller returns who makes a call: the identity of the connection's handshake,
// which is never looked at again, however old it gets.
func (a *authService) caller(ctx context.Context) (caller, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return caller{}, trace.AccessDenied("missing authentication")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return caller{}, trace.AccessDenied("missing authentication")
	}
	who, err := callerOf(info.State)
	if err != nil {
		return caller{}, trace.AccessDenied("missing authentication")
	}
	if a.site.root != nil {
		// A leaf maps the root's users to its own.
		who.identity.User = "remote-" + who.identity.User + "-" + a.c.cfg.Name
	}
	return who, nil
}

// handedOver are gRPC credentials for connections that have done their TLS
// handshake already.
type handedOver struct{}

// ServerHandshake tells gRPC what the handshake found.
func (handedOver) ServerHandshake(nc net.Conn) (net.Conn, credentials.AuthInfo, error) {
	tc, ok := nc.(*tls.Conn)
	if !ok {
		return nil, nil, errors.New("not a TLS connection")
	}
	return nc, credentials.TLSInfo{
		State:          tc.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

// ClientHandshake fails: there is no client here.
func (handedOver) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("server credentials only")
}

// Info describes the credentials.
func (handedOver) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone returns the credentials themselves, which hold nothing.
func (h handedOver) Clone() credentials.TransportCredentials { return h }

// OverrideServerName does nothing.
func (handedOver) OverrideServerName(string) error { return nil }
