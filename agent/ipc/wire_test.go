package ipc

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
)

// filler gives every field a value of its own, none of them zero.
type filler struct{ n int64 }

func (f *filler) fill(v reflect.Value) {
	f.n++
	switch v.Interface().(type) {
	case time.Time:
		at := time.Date(2026, 1, 2, 3, 4, 5, int(f.n), time.UTC).Add(time.Duration(f.n) * time.Hour)
		v.Set(reflect.ValueOf(at))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("text-%d", f.n))
	case reflect.Int, reflect.Int64:
		v.SetInt(f.n)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(uint64(f.n))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			f.fill(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, val := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.fill(key)
			f.fill(val)
			v.SetMapIndex(key, val)
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			f.fill(field)
		}
	default:
		panic("filler: no rule for " + v.Type().String())
	}
}

func filled[T any]() T {
	var v T
	(&filler{}).fill(reflect.ValueOf(&v).Elem())
	return v
}

// roundTrip sends v over the wire's encoding and back.
func roundTrip[P any, M interface {
	*P
	proto.Message
}, T any](t *testing.T, v T) T {
	t.Helper()
	raw, err := proto.Marshal(M(ToProto[P](v)))
	if err != nil {
		t.Fatalf("marshal: %v", err)
	}
	received := M(new(P))
	if err := proto.Unmarshal(raw, received); err != nil {
		t.Fatalf("unmarshal: %v", err)
	}
	return FromProto[T](received)
}

// unset lists the fields of m, and of the messages in it, that carry nothing.
func unset(m protoreflect.Message) []string {
	var missing []string
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		switch v := m.Get(fd); {
		case !m.Has(fd):
			missing = append(missing, string(fd.FullName()))
		case fd.IsMap() || fd.Kind() != protoreflect.MessageKind:
		case fd.IsList():
			for j := range v.List().Len() {
				missing = append(missing, unset(v.List().Get(j).Message())...)
			}
		case fd.Message().ParentFile().Package() == "berth.v1":
			missing = append(missing, unset(v.Message())...)
		}
	}
	return missing
}

// keeps checks that every field of a T arrives, and that every field of its
// message has a use.
func keeps[T, P any, M interface {
	*P
	proto.Message
}](t *testing.T) {
	t.Helper()
	t.Run(fmt.Sprintf("%T", *new(T)), func(t *testing.T) {
		v := filled[T]()
		if diff := cmp.Diff(v, roundTrip[P, M](t, v)); diff != "" {
			t.Errorf("changed on the wire (-sent +received):\n%s", diff)
		}
		if m := unset(M(ToProto[P](v)).ProtoReflect()); len(m) > 0 {
			t.Errorf("fields of the message that are never sent: %v", m)
		}
	})
}

func TestWireKeepsEveryField(t *testing.T) {
	keeps[state.Agent, pb.AgentInfo](t)
	keeps[state.Snapshot, pb.Snapshot](t)
	keeps[state.TunnelSpec, pb.TunnelSpec](t)
	keeps[state.Event, pb.Event](t)
	keeps[state.Request, pb.Request](t)
	keeps[state.RequestEvent, pb.WatchResponse](t)
	keeps[Resource, pb.Resource](t)
	keeps[RecordingQuery, pb.ListRecordingsRequest](t)
	keeps[RecordingList, pb.ListRecordingsResponse](t)
	keeps[RecordingRead, pb.ReadRecordingRequest](t)
	keeps[RecordingPart, pb.ReadRecordingResponse](t)
	keeps[ResourceQuery, pb.ListResourcesRequest](t)
	keeps[LoginStart, pb.LoginStart](t)
	keeps[LoginEvent, pb.LoginResponse](t)
	keeps[LoginAnswer, pb.LoginAnswer](t)
	keeps[Snoozed, pb.SnoozeRenewalResponse](t)
	keeps[Forgotten, pb.ForgetLoginResponse](t)
	keeps[KubeCredentials, pb.KubeCredentialsResponse](t)
	keeps[LocalCA, pb.LocalCAResponse](t)
	keeps[RequestAbilities, pb.AbilitiesResponse](t)
	keeps[NewRequest, pb.CreateRequest](t)
	keeps[Assume, pb.AssumeRequest](t)
	keeps[Assumed, pb.AssumeResponse](t)
}

func TestWireOfAbsence(t *testing.T) {
	got := roundTrip[pb.Snapshot](t, state.Snapshot{
		Profiles: []state.Profile{{}}, Tunnels: []state.Tunnel{{}}, Requests: []state.Request{{}},
	})
	want := state.Snapshot{
		Profiles: []state.Profile{{Roles: []string{}, ActiveRequests: []string{}, Stored: []string{}, HeldRequests: []string{}}},
		Tunnels:  []state.Tunnel{{TunnelSpec: state.TunnelSpec{AsGroups: []string{}}, Addresses: []string{}}},
		Requests: []state.Request{{
			Roles: []string{}, Resources: []string{}, Reviews: []state.Review{}, SuggestedReviewers: []string{}, Tunnels: []string{},
		}},
		Problems: []state.Problem{},
		Notices:  []state.Notice{},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lists must be empty, not nil, and times absent (-want +got):\n%s", diff)
	}
	spec := roundTrip[pb.TunnelSpec](t, state.TunnelSpec{Hold: new(state.Duration)})
	if spec.Hold == nil || *spec.Hold != 0 {
		t.Errorf("hold of 0 arrived as %v, want a pointer to 0: it differs from the default", spec.Hold)
	}
}

func TestWireRepairsText(t *testing.T) {
	bad := "caf\xe9"
	got := roundTrip[pb.Snapshot](t, state.Snapshot{
		Requests: []state.Request{{Reason: bad, Roles: []string{bad}}},
	})
	if r := got.Requests[0]; r.Reason != "caf\uFFFD" || r.Roles[0] != "caf\uFFFD" {
		t.Errorf("text %q arrived as %q and %q", bad, r.Reason, r.Roles[0])
	}
	res := roundTrip[pb.Resource](t, Resource{Labels: map[string]string{bad: bad}})
	if res.Labels["caf\uFFFD"] != "caf\uFFFD" {
		t.Errorf("labels arrived as %q", res.Labels)
	}
}

func BenchmarkSnapshotOverTheWire(b *testing.B) {
	s := filled[state.Snapshot]()
	for range 5 {
		s.Tunnels = append(s.Tunnels, s.Tunnels...)
	}
	b.ReportAllocs()
	for b.Loop() {
		FromProto[state.Snapshot](ToProto[pb.Snapshot](s))
	}
}
