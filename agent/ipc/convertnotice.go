package ipc

import (
	"context"

	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
)

func noticeToProto(n state.Notice) *pb.Notice {
	return &pb.Notice{
		Id:      utf8(n.ID),
		Kind:    utf8(string(n.Kind)),
		Urgency: utf8(string(n.Urgency)),
		Title:   utf8(n.Title),
		Body:    utf8(n.Body),
		Since:   timeToProto(n.Since),
		Actions: convert(n.Actions, noticeActionToProto),
	}
}

func noticeFromProto(n *pb.Notice) state.Notice {
	return state.Notice{
		ID:      n.GetId(),
		Kind:    state.NoticeKind(n.GetKind()),
		Urgency: state.Urgency(n.GetUrgency()),
		Title:   n.GetTitle(),
		Body:    n.GetBody(),
		Since:   timeFromProto(n.GetSince()),
		Actions: convert(n.GetActions(), noticeActionFromProto),
	}
}

func noticeActionToProto(a state.NoticeAction) *pb.NoticeAction {
	return &pb.NoticeAction{
		Verb: utf8(string(a.Verb)), Label: utf8(a.Label), Proxy: utf8(a.Proxy), Request: utf8(a.Request), Tunnel: utf8(a.Tunnel),
		Confirm: a.Confirm,
	}
}

func noticeActionFromProto(a *pb.NoticeAction) state.NoticeAction {
	return state.NoticeAction{
		Verb: state.Verb(a.GetVerb()), Label: a.GetLabel(), Proxy: a.GetProxy(), Request: a.GetRequest(), Tunnel: a.GetTunnel(),
		Confirm: a.GetConfirm(),
	}
}

// DismissNotice says that a notice need not be shown any more.
func (s *service) DismissNotice(ctx context.Context, req *pb.DismissNoticeRequest) (*pb.DismissNoticeResponse, error) {
	if err := s.backend.DismissNotice(ctx, req.GetId()); err != nil {
		return nil, err
	}
	return &pb.DismissNoticeResponse{}, nil
}
