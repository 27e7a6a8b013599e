package ipc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
)

// LoginBackend answers for logins.
type LoginBackend interface {
	// Login logs in, showing each step and taking answers until it is done or
	// ctx ends. An error of show ends the caller's part in it.
	Login(ctx context.Context, start LoginStart, answers <-chan LoginAnswer, show func(LoginEvent) error) error
	// Cancel ends the login under way at a proxy, for all who take part in it; user
	// says whose, where several homes have a profile there, and empty means any.
	Cancel(ctx context.Context, proxy, user string) error
	// Logout ends the session at a proxy, of a user if one is named, and returns which
	// proxy it was.
	Logout(ctx context.Context, proxy, user string) (string, error)
	// Forget deletes what the keychain holds for a user at a proxy; an empty user
	// means the profile's own.
	Forget(ctx context.Context, proxy, user string) (Forgotten, error)
}

// RenewalBackend answers for the renewing of sessions.
type RenewalBackend interface {
	// Snooze silences the current reminder that a session expires, of a user if one is
	// named.
	Snooze(ctx context.Context, proxy, user string) (Snoozed, error)
}

// LoginStart says where to log in, and how.
type LoginStart struct {
	Proxy string        // host:port or host; empty means the current profile's
	User  string        // empty means the profile's own
	Auth  string        // connector; empty means the config's, else the cluster's default
	TTL   time.Duration // of the session; zero means what the roles allow
	Renew bool          // log in again although the session is still valid
	// Remember keeps what is typed as the password in the keychain, once it has
	// proved right.
	Remember bool
	// TOTPSeed is kept in the keychain too, and answers prompts for one-time
	// codes; empty means none.
	TOTPSeed string
	// TSH is the front end's own tsh, which serves where the agent finds none; empty
	// means none.
	TSH string
}

// CheckProxy refuses a word that cannot name a proxy: none that could be a flag of tsh's,
// or a part of a URL.
func CheckProxy(proxy string) error {
	if strings.HasPrefix(proxy, "-") || strings.ContainsFunc(proxy, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`/@\?#"'`, r) }) {
		return &Error{Code: CodeInvalid, Message: fmt.Sprintf("%q is no proxy's address", proxy), Hint: "use host:port"}
	}
	return nil
}

// LogValue keeps the seed out of logs.
func (s LoginStart) LogValue() slog.Value {
	return slog.GroupValue(slog.String("proxy", s.Proxy), slog.String("user", s.User), slog.Bool("renew", s.Renew), slog.Bool("remember", s.Remember))
}

// String keeps the seed out of everything else that prints values.
func (s LoginStart) String() string { return "login of " + s.User + " at " + s.Proxy }

// GoString does the same for %#v.
func (s LoginStart) GoString() string { return s.String() }

// Forgotten lists what was deleted from the keychain.
type Forgotten struct {
	Proxy  string   `json:"proxy"`
	User   string   `json:"user"`
	Stored []string `json:"stored"` // password, totp
}

// LoginEvent is a step of a login.
type LoginEvent struct {
	ID       int64 // of a prompt, for its answer
	Kind     state.LoginKind
	Text     string
	URL      string     // of LoginURL, as tsh printed it: to be checked before it is opened
	Proxy    string     // where the login goes
	Deadline *time.Time // nil when that is unknown
	Browser  []string   // of LoginURL: the command the config wants it opened with; empty means the front end's choice
}

// LoginAnswer is a front end's answer to a prompt.
type LoginAnswer struct {
	ID     int64
	Secret string
}

// Snoozed reports that the reminder of a session's expiry is snoozed, and until when.
type Snoozed struct {
	Proxy string     `json:"proxy"`
	Until *time.Time `json:"until"` // when the next word comes; nil when none will
}

// LogValue keeps the secret out of logs.
func (a LoginAnswer) LogValue() slog.Value {
	return slog.GroupValue(slog.Int64("id", a.ID))
}

// String keeps the secret out of everything else that prints values.
func (a LoginAnswer) String() string { return "[login answer]" }

// GoString is String for %#v.
func (a LoginAnswer) GoString() string { return a.String() }

// Login carries a login between a front end and the agent.
func (s *service) Login(stream grpc.BidiStreamingServer[pb.LoginRequest, pb.LoginResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return &Error{Code: CodeInvalid, Message: "a login begins with where to log in"}
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	answers := make(chan LoginAnswer)
	go func() {
		select {
		case <-s.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	go receiveAnswers(ctx, cancel, stream, answers)
	return s.backend.Logins.Login(ctx, FromProto[LoginStart](start), answers,
		func(e LoginEvent) error { return stream.Send(ToProto[pb.LoginResponse](e)) })
}

// receiveAnswers passes answers on until the front end leaves, which ends its
// part in the login. Its stream ends with the call, and this with it.
func receiveAnswers(
	ctx context.Context, cancel func(), stream grpc.BidiStreamingServer[pb.LoginRequest, pb.LoginResponse],
	answers chan<- LoginAnswer,
) {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return // it has nothing more to say, and still listens
		}
		if err != nil {
			cancel()
			return
		}
		select {
		case answers <- FromProto[LoginAnswer](req.GetAnswer()):
		case <-ctx.Done():
			return
		}
	}
}

func (s *service) CancelLogin(ctx context.Context, req *pb.CancelLoginRequest) (*pb.CancelLoginResponse, error) {
	if err := s.backend.Logins.Cancel(ctx, req.GetProxy(), req.GetUser()); err != nil {
		return nil, err
	}
	return &pb.CancelLoginResponse{}, nil
}

func (s *service) ForgetLogin(ctx context.Context, req *pb.ForgetLoginRequest) (*pb.ForgetLoginResponse, error) {
	f, err := s.backend.Logins.Forget(ctx, req.GetProxy(), req.GetUser())
	if err != nil {
		return nil, err
	}
	return ToProto[pb.ForgetLoginResponse](f), nil
}

func (s *service) Logout(ctx context.Context, req *pb.LogoutRequest) (*pb.LogoutResponse, error) {
	proxy, err := s.backend.Logins.Logout(ctx, req.GetProxy(), req.GetUser())
	if err != nil {
		return nil, err
	}
	s.awaitLogout(ctx, proxy, req.GetUser())
	return &pb.LogoutResponse{Proxy: utf8(proxy)}, nil
}

// logoutWait is how long a logout waits for the tunnels.
const logoutWait = 3 * time.Second

// awaitLogout waits, not for long, until no tunnel of a user's at a proxy is shown as ready:
// what a front end shows or asks next is to agree with the logout.
func (s *service) awaitLogout(ctx context.Context, proxy, user string) {
	ctx, stop := context.WithTimeout(ctx, logoutWait)
	defer stop()
	wake, cancel := s.backend.Agent.Subscribe()
	defer cancel()
	serves := func(t state.Tunnel) bool {
		as := cmp.Or(t.RunsAs, t.User)
		others := user != "" && as != "" && as != user
		return t.Profile == proxy && t.State == state.TunnelReady && !others
	}
	for slices.ContainsFunc(s.backend.Agent.Snapshot().Tunnels, serves) {
		select {
		case <-wake:
		case <-ctx.Done():
			return
		}
	}
}

func (s *service) SnoozeRenewal(ctx context.Context, req *pb.SnoozeRenewalRequest) (*pb.SnoozeRenewalResponse, error) {
	snoozed, err := s.backend.Renewals.Snooze(ctx, req.GetProxy(), req.GetUser())
	if err != nil {
		return nil, err
	}
	return ToProto[pb.SnoozeRenewalResponse](snoozed), nil
}
