package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"berth/agent/ipc"
	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
	"berth/internal/plain"
)

// jsonCalls are the calls that CallJSON makes, and how long each may take. What hands
// out a credential, or ends or replaces the agent, is not among them.
var jsonCalls = map[string]struct {
	method string
	limit  time.Duration
}{
	"GetInfo":       {pb.Agent_GetInfo_FullMethodName, readTimeout},
	"TunnelHistory": {pb.Agent_TunnelHistory_FullMethodName, readTimeout},
	"TunnelClients": {pb.Agent_TunnelClients_FullMethodName, readTimeout},
	"ListResources": {pb.Agent_ListResources_FullMethodName, commandTimeout},
	"AddTunnel":     {pb.Agent_AddTunnel_FullMethodName, commandTimeout},
	"ChangeTunnel":  {pb.Agent_ChangeTunnel_FullMethodName, commandTimeout},
	"RemoveTunnel":  {pb.Agent_RemoveTunnel_FullMethodName, commandTimeout},
	"StartTunnel":   {pb.Agent_StartTunnel_FullMethodName, commandTimeout},
	"StopTunnel":    {pb.Agent_StopTunnel_FullMethodName, commandTimeout},
	"RestartTunnel": {pb.Agent_RestartTunnel_FullMethodName, commandTimeout},
	"SnoozeRenewal": {pb.Agent_SnoozeRenewal_FullMethodName, commandTimeout},
	"DismissNotice": {pb.Agent_DismissNotice_FullMethodName, commandTimeout},
	"ReloadConfig":  {pb.Agent_ReloadConfig_FullMethodName, commandTimeout},
	"Logout":        {pb.Agent_Logout_FullMethodName, commandTimeout},
	"CancelLogin":   {pb.Agent_CancelLogin_FullMethodName, commandTimeout},
	"ForgetLogin":   {pb.Agent_ForgetLogin_FullMethodName, commandTimeout},
	"Abilities":     {pb.AccessRequests_Abilities_FullMethodName, requestTimeout},
	"Create":        {pb.AccessRequests_Create_FullMethodName, requestTimeout},
	"Decide":        {pb.AccessRequests_Decide_FullMethodName, requestTimeout},
	"Assume":        {pb.AccessRequests_Assume_FullMethodName, assumeTimeout},
	"Drop":          {pb.AccessRequests_Drop_FullMethodName, requestTimeout},
	"List":          {pb.Recordings_List_FullMethodName, recordingsTimeout},
}

// jsonForm writes every field that has a value or a default: a page needs no
// knowledge of protobuf's defaults.
var jsonForm = protojson.MarshalOptions{EmitDefaultValues: true}

// CallJSON makes the call that the API names so, with its request and its answer
// in protobuf's JSON. Only calls that a page of the user's may make are known;
// see jsonCalls.
func (c *Client) CallJSON(ctx context.Context, name string, request []byte) ([]byte, error) {
	known, ok := jsonCalls[name]
	if !ok {
		return nil, &Error{Code: ipc.CodeNotFound, Message: fmt.Sprintf("there is no call %q", name)}
	}
	req, resp, err := messagesOf(known.method)
	if err != nil {
		return nil, err
	}
	if err := protojson.Unmarshal(request, req); err != nil {
		return nil, &Error{Code: ipc.CodeInvalid, Message: fmt.Sprintf("the request for %s is not understood: %v", name, err)}
	}
	l, err := c.connection()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, known.limit)
	defer cancel()
	if err := l.conn.Invoke(ctx, known.method, req, resp); err != nil {
		return nil, c.failed(ctx, l, err)
	}
	return jsonOf(resp)
}

// jsonOf writes a message for a page. What others have written, names and reasons among
// it, is cleaned as for every other place that shows it.
func jsonOf(m proto.Message) ([]byte, error) {
	if err := protorange.Range(m.ProtoReflect(), cleanText); err != nil {
		return nil, err
	}
	return jsonForm.Marshal(m)
}

// cleanText cleans the text that a walk through a message has come to.
func cleanText(at protopath.Values) error {
	last := at.Index(-1)
	text, ok := last.Value.Interface().(string)
	if !ok {
		return nil
	}
	clean := plain.Text(text)
	if clean == text {
		return nil
	}
	value, around := protoreflect.ValueOfString(clean), at.Index(-2).Value
	switch last.Step.Kind() {
	case protopath.FieldAccessStep:
		around.Message().Set(last.Step.FieldDescriptor(), value)
	case protopath.ListIndexStep:
		around.List().Set(last.Step.ListIndex(), value)
	case protopath.MapIndexStep:
		around.Map().Set(last.Step.MapIndex(), value)
	default: // no other step leads to a text
	}
	return nil
}

// messagesOf makes an empty request and an empty answer of a method, which is
// written as /SERVICE/METHOD.
func messagesOf(method string) (req, resp proto.Message, err error) {
	full := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(full))
	if err != nil {
		return nil, nil, fmt.Errorf("look up %s: %w", method, err)
	}
	described, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, nil, fmt.Errorf("look up %s: it is no method", method)
	}
	in, err := protoregistry.GlobalTypes.FindMessageByName(described.Input().FullName())
	if err != nil {
		return nil, nil, fmt.Errorf("look up the request of %s: %w", method, err)
	}
	out, err := protoregistry.GlobalTypes.FindMessageByName(described.Output().FullName())
	if err != nil {
		return nil, nil, fmt.Errorf("look up the answer of %s: %w", method, err)
	}
	return in.New().Interface(), out.New().Interface(), nil
}

// FollowJSON is [Client.Follow] with the snapshots in protobuf's JSON, and beside what
// each has its causes: one for all tunnels that have the same problem.
func (c *Client) FollowJSON(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for s, err := range c.Follow(ctx) {
			var text []byte
			if err == nil {
				text, err = snapshotJSON(s)
			}
			if !yield(text, err) {
				return
			}
		}
	}
}

// pageCause is why some tunnels have a problem.
type pageCause struct {
	Tunnels []string `json:"tunnels"`
	Text    string   `json:"text"` // the problem's, for all of them
}

func snapshotJSON(s state.Snapshot) ([]byte, error) {
	text, err := jsonOf(ipc.ToProto[pb.Snapshot](s))
	if err != nil {
		return nil, err
	}
	causes := []pageCause{}
	for _, tunnels := range s.Causes() {
		c := pageCause{Text: tunnels[0].Problem.Text}
		for _, t := range tunnels {
			c.Tunnels = append(c.Tunnels, plain.Text(t.Name))
		}
		if n := len(tunnels); n > 1 {
			c.Text = state.Nameless(c.Text, tunnels[0].Name, fmt.Sprintf("each of %d tunnels", n))
		}
		c.Text = plain.Text(c.Text)
		causes = append(causes, c)
	}
	more, err := json.Marshal(causes)
	if err != nil {
		return nil, err
	}
	open := bytes.TrimSuffix(text, []byte("}"))
	return slices.Concat(open, []byte(`,"causes":`), more, []byte("}")), nil
}

// LoginEventJSON is a step of a login in protobuf's JSON.
func LoginEventJSON(e LoginEvent) ([]byte, error) {
	return jsonOf(ipc.ToProto[pb.LoginResponse](e))
}

// Tunnel asks for one tunnel as it is now.
func (c *Client) Tunnel(ctx context.Context, name string) (state.Tunnel, error) {
	s, err := c.Snapshot(ctx)
	if err != nil {
		return state.Tunnel{}, err
	}
	for _, t := range s.Tunnels {
		if t.Name == name {
			return t, nil
		}
	}
	return state.Tunnel{}, ipc.UnknownTunnel(name)
}
