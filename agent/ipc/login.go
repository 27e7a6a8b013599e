package ipc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "berth/agent/ipc/berthv1"
)

// LoginStart says where to log in, and how.
type LoginStart struct {
	Proxy string        // host:port or host; empty means the current profile's
	User  string        // empty means the profile's own
	Auth  string        // connector; empty means the config's, else the cluster's default
	TTL   time.Duration // of the session; zero means what the roles allow
	Renew bool          // log in anew although the session is still valid
	// Remember keeps what is typed as the password in the keychain, once it has
	// proved right.
	Remember bool
	// TOTPSeed is kept likewise, and answers prompts for one-time codes; empty
	// means none.
	TOTPSeed string
}

// LogValue keeps the seed out of logs.
func (s LoginStart) LogValue() slog.Value {
	return slog.GroupValue(slog.String("proxy", s.Proxy), slog.String("user", s.User), slog.Bool("renew", s.Renew), slog.Bool("remember", s.Remember))
}

// String keeps the seed out of everything else that prints values.
func (s LoginStart) String() string { return "login of " + s.User + " at " + s.Proxy }

// GoString does the same for %#v.
func (s LoginStart) GoString() string { return s.String() }

// Forgotten is what the keychain held and holds no more.
type Forgotten struct {
	Proxy  string   `json:"proxy"`
	User   string   `json:"user"`
	Stored []string `json:"stored"` // password, totp
}

// LoginKind is what a LoginEvent is about.
type LoginKind string

// The kinds of login events. LoginPassword and LoginOTP want an answer.
const (
	LoginURL      LoginKind = "url"
	LoginPassword LoginKind = "password"
	LoginOTP      LoginKind = "otp"
	LoginTap      LoginKind = "tap"
	LoginInfo     LoginKind = "info"
	LoginSettled  LoginKind = "settled" // the prompt of this ID needs no answer any more
	LoginDone     LoginKind = "done"    // logged in; nothing follows
)

// LoginEvent is a step of a login.
type LoginEvent struct {
	ID       int64 // of a prompt, for its answer
	Kind     LoginKind
	Text     string
	URL      string     // of LoginURL, as tsh printed it: to be checked before it is opened
	Proxy    string     // where the login goes
	Deadline *time.Time // nil means that nobody knows
	Browser  []string   // of LoginURL: the command the config wants it opened with; empty means the front end's choice
}

// LoginAnswer is what a front end says to a prompt.
type LoginAnswer struct {
	ID     int64
	Secret string
}

// Snoozed is a session's end put aside.
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
	return s.backend.Login(ctx, LoginStart{
		Proxy: start.GetProxy(), User: start.GetUser(), Auth: start.GetAuth(), TTL: start.GetTtl().AsDuration(),
		Renew: start.GetRenew(), Remember: start.GetRemember(), TOTPSeed: start.GetTotpSeed(),
	}, answers, func(e LoginEvent) error { return stream.Send(loginEventToProto(e)) })
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
		a := LoginAnswer{ID: req.GetAnswer().GetId(), Secret: req.GetAnswer().GetSecret()}
		select {
		case answers <- a:
		case <-ctx.Done():
			return
		}
	}
}

// CancelLogin ends a login under way.
func (s *service) CancelLogin(ctx context.Context, req *pb.CancelLoginRequest) (*pb.CancelLoginResponse, error) {
	if err := s.backend.CancelLogin(ctx, req.GetProxy()); err != nil {
		return nil, err
	}
	return &pb.CancelLoginResponse{}, nil
}

// ForgetLogin deletes what the keychain holds.
func (s *service) ForgetLogin(ctx context.Context, req *pb.ForgetLoginRequest) (*pb.ForgetLoginResponse, error) {
	f, err := s.backend.ForgetLogin(ctx, req.GetProxy(), req.GetUser())
	if err != nil {
		return nil, err
	}
	return &pb.ForgetLoginResponse{Proxy: utf8(f.Proxy), User: utf8(f.User), Stored: convert(f.Stored, utf8)}, nil
}

// Logout ends the session at a proxy.
func (s *service) Logout(ctx context.Context, req *pb.LogoutRequest) (*pb.LogoutResponse, error) {
	proxy, err := s.backend.Logout(ctx, req.GetProxy())
	if err != nil {
		return nil, err
	}
	return &pb.LogoutResponse{Proxy: utf8(proxy)}, nil
}

// SnoozeRenewal puts aside what is said about a session's end.
func (s *service) SnoozeRenewal(ctx context.Context, req *pb.SnoozeRenewalRequest) (*pb.SnoozeRenewalResponse, error) {
	snoozed, err := s.backend.SnoozeRenewal(ctx, req.GetProxy())
	if err != nil {
		return nil, err
	}
	return &pb.SnoozeRenewalResponse{Proxy: utf8(snoozed.Proxy), Until: timePtrToProto(snoozed.Until)}, nil
}

func loginEventToProto(e LoginEvent) *pb.LoginResponse {
	return &pb.LoginResponse{
		Id: e.ID, Kind: utf8(string(e.Kind)), Text: utf8(e.Text), Url: utf8(e.URL), Proxy: utf8(e.Proxy),
		Deadline: timePtrToProto(e.Deadline), Browser: convert(e.Browser, utf8),
	}
}

// LoginEventFromProto is a login's step as a front end knows it.
func LoginEventFromProto(e *pb.LoginResponse) LoginEvent {
	return LoginEvent{
		ID: e.GetId(), Kind: LoginKind(e.GetKind()), Text: e.GetText(), URL: e.GetUrl(), Proxy: e.GetProxy(),
		Deadline: timePtrFromProto(e.GetDeadline()), Browser: e.GetBrowser(),
	}
}

// LoginStartToProto is the first message of a login.
func LoginStartToProto(s LoginStart) *pb.LoginRequest {
	start := &pb.LoginStart{Proxy: utf8(s.Proxy), User: utf8(s.User), Auth: utf8(s.Auth), Renew: s.Renew, Remember: s.Remember, TotpSeed: utf8(s.TOTPSeed)}
	if s.TTL > 0 {
		start.Ttl = durationpb.New(s.TTL)
	}
	return &pb.LoginRequest{Start: start}
}

// SnoozedFromProto is a renewal put aside as a front end knows it.
func SnoozedFromProto(r *pb.SnoozeRenewalResponse) Snoozed {
	return Snoozed{Proxy: r.GetProxy(), Until: timePtrFromProto(r.GetUntil())}
}

// ForgottenFromProto is what was forgotten as a front end knows it.
func ForgottenFromProto(r *pb.ForgetLoginResponse) Forgotten {
	return Forgotten{Proxy: r.GetProxy(), User: r.GetUser(), Stored: append([]string{}, r.GetStored()...)}
}
