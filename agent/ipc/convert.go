package ipc

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
)

// SnapshotToProto returns s as it goes over the wire. Text that is not UTF-8
// is repaired: protobuf refuses it, and names come from others.
func SnapshotToProto(s state.Snapshot) *pb.Snapshot {
	return &pb.Snapshot{
		Agent: &pb.AgentInfo{
			Version:    utf8(s.Agent.Version),
			Pid:        int64(s.Agent.PID),
			StartedAt:  timeToProto(s.Agent.StartedAt),
			ConfigPath: utf8(s.Agent.ConfigPath),
		},
		Profiles: convert(s.Profiles, profileToProto),
		Tunnels:  convert(s.Tunnels, tunnelToProto),
		Requests: convert(s.Requests, requestToProto),
		Problems: convert(s.Problems, problemToProto),
		Notices:  convert(s.Notices, noticeToProto),
	}
}

// SnapshotFromProto is the way back. Lists are never nil, so that their JSON
// is [] and not null.
func SnapshotFromProto(s *pb.Snapshot) state.Snapshot {
	a := s.GetAgent()
	return state.Snapshot{
		Agent: state.Agent{
			Version:    a.GetVersion(),
			PID:        int(a.GetPid()),
			StartedAt:  timeFromProto(a.GetStartedAt()),
			ConfigPath: a.GetConfigPath(),
		},
		Profiles: convert(s.GetProfiles(), profileFromProto),
		Tunnels:  convert(s.GetTunnels(), tunnelFromProto),
		Requests: convert(s.GetRequests(), requestFromProto),
		Problems: convert(s.GetProblems(), problemFromProto),
		Notices:  convert(s.GetNotices(), noticeFromProto),
	}
}

func profileToProto(p state.Profile) *pb.Profile {
	return &pb.Profile{
		Proxy:          utf8(p.Proxy),
		Cluster:        utf8(p.Cluster),
		User:           utf8(p.User),
		Home:           utf8(p.Home),
		Roles:          convert(p.Roles, utf8),
		ActiveRequests: convert(p.ActiveRequests, utf8),
		ValidUntil:     timePtrToProto(p.ValidUntil),
		SshValidUntil:  timePtrToProto(p.SSHValidUntil),
		State:          utf8(string(p.State)),
		Login:          &pb.Login{InProgress: p.Login.InProgress, Url: utf8(p.Login.URL), Asks: utf8(p.Login.Asks)},
		Renewal:        renewalToProto(p.Renewal),
		Stored:         convert(p.Stored, utf8),
		HeldRequests:   convert(p.HeldRequests, utf8),
	}
}

func renewalToProto(r state.Renewal) *pb.Renewal {
	out := &pb.Renewal{Mode: utf8(string(r.Mode)), At: timePtrToProto(r.At), Warning: utf8(string(r.Warning)), RenewedAt: timePtrToProto(r.RenewedAt)}
	if r.Problem != nil {
		out.Problem = problemToProto(*r.Problem)
	}
	return out
}

func renewalFromProto(r *pb.Renewal) state.Renewal {
	out := state.Renewal{Mode: state.RenewMode(r.GetMode()), At: timePtrFromProto(r.GetAt()), Warning: state.RenewalWarning(r.GetWarning()), RenewedAt: timePtrFromProto(r.GetRenewedAt())}
	if r.GetProblem() != nil {
		out.Problem = new(problemFromProto(r.GetProblem()))
	}
	return out
}

func profileFromProto(p *pb.Profile) state.Profile {
	return state.Profile{
		Proxy:          p.GetProxy(),
		Cluster:        p.GetCluster(),
		User:           p.GetUser(),
		Home:           p.GetHome(),
		Roles:          convert(p.GetRoles(), same),
		ActiveRequests: convert(p.GetActiveRequests(), same),
		ValidUntil:     timePtrFromProto(p.GetValidUntil()),
		SSHValidUntil:  timePtrFromProto(p.GetSshValidUntil()),
		State:          state.ProfileState(p.GetState()),
		Login:          state.Login{InProgress: p.GetLogin().GetInProgress(), URL: p.GetLogin().GetUrl(), Asks: p.GetLogin().GetAsks()},
		Renewal:        renewalFromProto(p.GetRenewal()),
		Stored:         append([]string{}, p.GetStored()...),
		HeldRequests:   convert(p.GetHeldRequests(), same),
	}
}

func tunnelToProto(t state.Tunnel) *pb.Tunnel {
	out := &pb.Tunnel{
		Name:             utf8(t.Name),
		Kind:             utf8(string(t.Kind)),
		Profile:          utf8(t.Profile),
		Cluster:          utf8(t.Cluster),
		Resource:         utf8(t.Resource),
		Protocol:         utf8(t.Protocol),
		Address:          utf8(t.Address),
		Addresses:        convert(t.Addresses, utf8),
		Engine:           utf8(string(t.Engine)),
		EngineReason:     utf8(t.EngineReason),
		State:            utf8(string(t.State)),
		Connections:      t.Connections,
		Waiting:          t.Waiting,
		TotalConnections: t.TotalConnections,
		StaleConnections: t.StaleConnections,
		BytesIn:          t.BytesIn,
		BytesOut:         t.BytesOut,
		CertValidUntil:   timePtrToProto(t.CertValidUntil),
		LastErrorAt:      timePtrToProto(t.LastErrorAt),
		WaitingSince:     timePtrToProto(t.WaitingSince),
		WaitingClient:    utf8(t.WaitingClient),
		Guard:            utf8(string(t.Guard)),
		ForeignUser:      utf8(t.ForeignUser),
		ForeignAt:        timePtrToProto(t.ForeignAt),
	}
	if t.Problem != nil {
		out.Problem = problemToProto(*t.Problem)
	}
	return out
}

func tunnelFromProto(t *pb.Tunnel) state.Tunnel {
	out := state.Tunnel{
		Name:             t.GetName(),
		Kind:             state.Kind(t.GetKind()),
		Profile:          t.GetProfile(),
		Cluster:          t.GetCluster(),
		Resource:         t.GetResource(),
		Protocol:         t.GetProtocol(),
		Address:          t.GetAddress(),
		Addresses:        convert(t.GetAddresses(), same),
		Engine:           state.Engine(t.GetEngine()),
		EngineReason:     t.GetEngineReason(),
		State:            state.TunnelState(t.GetState()),
		Connections:      t.GetConnections(),
		Waiting:          t.GetWaiting(),
		TotalConnections: t.GetTotalConnections(),
		StaleConnections: t.GetStaleConnections(),
		BytesIn:          t.GetBytesIn(),
		BytesOut:         t.GetBytesOut(),
		CertValidUntil:   timePtrFromProto(t.GetCertValidUntil()),
		LastErrorAt:      timePtrFromProto(t.GetLastErrorAt()),
		WaitingSince:     timePtrFromProto(t.GetWaitingSince()),
		WaitingClient:    t.GetWaitingClient(),
		Guard:            state.Guard(t.GetGuard()),
		ForeignUser:      t.GetForeignUser(),
		ForeignAt:        timePtrFromProto(t.GetForeignAt()),
	}
	if p := t.GetProblem(); p != nil {
		out.Problem = new(problemFromProto(p))
	}
	return out
}

func requestToProto(r state.Request) *pb.Request {
	return &pb.Request{
		Id:              utf8(r.ID),
		Profile:         utf8(r.Profile),
		User:            utf8(r.User),
		Roles:           convert(r.Roles, utf8),
		Resources:       convert(r.Resources, utf8),
		Reason:          utf8(r.Reason),
		State:           utf8(string(r.State)),
		CreatedAt:       timeToProto(r.CreatedAt),
		ExpiresAt:       timeToProto(r.ExpiresAt),
		Approvals:       int64(r.Approvals),
		ApprovalsNeeded: int64(r.ApprovalsNeeded),
		Reviews:         convert(r.Reviews, reviewToProto),
		Mine:            r.Mine,
		Reviewable:      r.Reviewable,
		Assumable:       r.Assumable,
		Assumed:         r.Assumed,
		Cluster:         utf8(r.Cluster), ResolveReason: utf8(r.ResolveReason),
		AccessUntil: timePtrToProto(r.AccessUntil), SessionUntil: timePtrToProto(r.SessionUntil), AssumeFrom: timePtrToProto(r.AssumeFrom),
		PromotedTo: utf8(r.PromotedTo), Progress: utf8(r.Progress),
		SuggestedReviewers: convert(r.SuggestedReviewers, utf8), Tunnels: convert(r.Tunnels, utf8),
	}
}

func requestFromProto(r *pb.Request) state.Request {
	return state.Request{
		ID:              r.GetId(),
		Profile:         r.GetProfile(),
		User:            r.GetUser(),
		Roles:           convert(r.GetRoles(), same),
		Resources:       convert(r.GetResources(), same),
		Reason:          r.GetReason(),
		State:           state.RequestState(r.GetState()),
		CreatedAt:       timeFromProto(r.GetCreatedAt()),
		ExpiresAt:       timeFromProto(r.GetExpiresAt()),
		Approvals:       int(r.GetApprovals()),
		ApprovalsNeeded: int(r.GetApprovalsNeeded()),
		Reviews:         convert(r.GetReviews(), reviewFromProto),
		Mine:            r.GetMine(),
		Reviewable:      r.GetReviewable(),
		Assumable:       r.GetAssumable(),
		Assumed:         r.GetAssumed(),
		Cluster:         r.GetCluster(), ResolveReason: r.GetResolveReason(),
		AccessUntil: timePtrFromProto(r.GetAccessUntil()), SessionUntil: timePtrFromProto(r.GetSessionUntil()), AssumeFrom: timePtrFromProto(r.GetAssumeFrom()),
		PromotedTo: r.GetPromotedTo(), Progress: r.GetProgress(),
		SuggestedReviewers: convert(r.GetSuggestedReviewers(), same), Tunnels: convert(r.GetTunnels(), same),
	}
}

func reviewToProto(r state.Review) *pb.Review {
	return &pb.Review{
		Author: utf8(r.Author),
		State:  utf8(string(r.State)),
		Reason: utf8(r.Reason),
		At:     timeToProto(r.At),
	}
}

func reviewFromProto(r *pb.Review) state.Review {
	return state.Review{
		Author: r.GetAuthor(),
		State:  state.RequestState(r.GetState()),
		Reason: r.GetReason(),
		At:     timeFromProto(r.GetAt()),
	}
}

func problemToProto(p state.Problem) *pb.Problem {
	return &pb.Problem{
		Code:   utf8(string(p.Code)),
		Title:  utf8(p.Title),
		Text:   utf8(p.Text),
		Action: utf8(p.Action),
		Since:  timeToProto(p.Since),
	}
}

func problemFromProto(p *pb.Problem) state.Problem {
	return state.Problem{
		Code:   state.Code(p.GetCode()),
		Title:  p.GetTitle(),
		Text:   p.GetText(),
		Action: p.GetAction(),
		Since:  timeFromProto(p.GetSince()),
	}
}

// ResourceToProto returns r as it goes over the wire.
func ResourceToProto(r Resource) *pb.Resource {
	labels := make(map[string]string, len(r.Labels))
	for k, v := range r.Labels {
		labels[utf8(k)] = utf8(v)
	}
	return &pb.Resource{
		Name:        utf8(r.Name),
		Kind:        utf8(string(r.Kind)),
		Protocol:    utf8(r.Protocol),
		Description: utf8(r.Description),
		Labels:      labels,
		Cluster:     utf8(r.Cluster),
		Tunnel:      utf8(r.Tunnel),
		DbUsers:     convert(r.DBUsers, utf8),
		DbNames:     convert(r.DBNames, utf8),
	}
}

// ResourceFromProto is the way back; lists and labels are never nil.
func ResourceFromProto(r *pb.Resource) Resource {
	labels := r.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	return Resource{
		Name:        r.GetName(),
		Kind:        state.Kind(r.GetKind()),
		Protocol:    r.GetProtocol(),
		Description: r.GetDescription(),
		Labels:      labels,
		Cluster:     r.GetCluster(),
		Tunnel:      r.GetTunnel(),
		DBUsers:     convert(r.GetDbUsers(), same),
		DBNames:     convert(r.GetDbNames(), same),
	}
}

// TunnelSpecToProto returns t as it goes over the wire.
func TunnelSpecToProto(t state.TunnelSpec) *pb.TunnelSpec {
	out := &pb.TunnelSpec{
		Name:     utf8(t.Name),
		Kind:     utf8(string(t.Kind)),
		Cluster:  utf8(t.Cluster),
		Resource: utf8(t.Resource),
		DbUser:   utf8(t.DBUser),
		DbName:   utf8(t.DBName),
		Port:     int64(t.Port),
		Engine:   utf8(string(t.Engine)),
		Guard:    utf8(string(t.Guard)),
		As:       utf8(t.As),
		AsGroups: convert(t.AsGroups, utf8),
	}
	if t.Hold != nil {
		out.Hold = durationpb.New(time.Duration(*t.Hold))
	}
	return out
}

// TunnelSpecFromProto is the way back.
func TunnelSpecFromProto(t *pb.TunnelSpec) state.TunnelSpec {
	out := state.TunnelSpec{
		Name:     t.GetName(),
		Kind:     state.Kind(t.GetKind()),
		Cluster:  t.GetCluster(),
		Resource: t.GetResource(),
		DBUser:   t.GetDbUser(),
		DBName:   t.GetDbName(),
		Port:     int(t.GetPort()),
		Engine:   state.Engine(t.GetEngine()),
		Guard:    state.Guard(t.GetGuard()),
		As:       t.GetAs(),
		AsGroups: t.GetAsGroups(),
	}
	if t.GetHold() != nil {
		out.Hold = new(state.Duration(t.GetHold().AsDuration()))
	}
	return out
}

// convert maps a list; the result is never nil.
func convert[A, B any](in []A, f func(A) B) []B {
	out := make([]B, 0, len(in))
	for _, v := range in {
		out = append(out, f(v))
	}
	return out
}

func same(s string) string { return s }

// The zero time is an absent timestamp.
func timeToProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func timeFromProto(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func timePtrToProto(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(*t)
}

func timePtrFromProto(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	return new(t.AsTime())
}

func eventToProto(e state.Event) *pb.Event {
	return &pb.Event{At: timeToProto(e.At), Kind: utf8(string(e.Kind)), Text: utf8(e.Text), Until: timePtrToProto(e.Until)}
}

// EventFromProto is an event as a front end knows it.
func EventFromProto(e *pb.Event) state.Event {
	return state.Event{
		At: timeFromProto(e.GetAt()), Kind: state.EventKind(e.GetKind()), Text: e.GetText(), Until: timePtrFromProto(e.GetUntil()),
	}
}
