package ipc

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

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

// roundTrip sends v over the wire's encoding and back. Every field of every
// message must have been set on the way.
func roundTrip[T any, P proto.Message](t *testing.T, to func(T) P, from func(P) T, v T) T {
	t.Helper()
	sent := to(v)
	raw, err := proto.Marshal(sent)
	if err != nil {
		t.Fatalf("marshal: %v", err)
	}
	received := sent.ProtoReflect().New().Interface().(P)
	if err := proto.Unmarshal(raw, received); err != nil {
		t.Fatalf("unmarshal: %v", err)
	}
	return from(received)
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

func TestConversionKeepsEveryField(t *testing.T) {
	t.Run("snapshot", func(t *testing.T) {
		v := filled[state.Snapshot]()
		if diff := cmp.Diff(v, roundTrip(t, SnapshotToProto, SnapshotFromProto, v)); diff != "" {
			t.Errorf("snapshot changed on the wire (-sent +received):\n%s", diff)
		}
		if m := unset(SnapshotToProto(v).ProtoReflect()); len(m) > 0 {
			t.Errorf("fields of the proto that are never sent: %v", m)
		}
	})
	t.Run("resource", func(t *testing.T) {
		v := filled[Resource]()
		if diff := cmp.Diff(v, roundTrip(t, ResourceToProto, ResourceFromProto, v)); diff != "" {
			t.Errorf("resource changed on the wire (-sent +received):\n%s", diff)
		}
		if m := unset(ResourceToProto(v).ProtoReflect()); len(m) > 0 {
			t.Errorf("fields of the proto that are never sent: %v", m)
		}
	})
	t.Run("tunnel_spec", func(t *testing.T) {
		v := filled[state.TunnelSpec]()
		if diff := cmp.Diff(v, roundTrip(t, TunnelSpecToProto, TunnelSpecFromProto, v)); diff != "" {
			t.Errorf("tunnel spec changed on the wire (-sent +received):\n%s", diff)
		}
		if m := unset(TunnelSpecToProto(v).ProtoReflect()); len(m) > 0 {
			t.Errorf("fields of the proto that are never sent: %v", m)
		}
	})
}

func TestConversionOfAbsence(t *testing.T) {
	got := roundTrip(t, SnapshotToProto, SnapshotFromProto, state.Snapshot{
		Profiles: []state.Profile{{}}, Tunnels: []state.Tunnel{{}}, Requests: []state.Request{{}},
	})
	want := state.Snapshot{
		Profiles: []state.Profile{{Roles: []string{}, ActiveRequests: []string{}, Stored: []string{}, HeldRequests: []string{}}},
		Tunnels:  []state.Tunnel{{Addresses: []string{}}},
		Requests: []state.Request{{
			Roles: []string{}, Resources: []string{}, Reviews: []state.Review{}, SuggestedReviewers: []string{}, Tunnels: []string{},
		}},
		Problems: []state.Problem{},
		Notices:  []state.Notice{},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lists must be empty, not nil, and times absent (-want +got):\n%s", diff)
	}
	spec := roundTrip(t, TunnelSpecToProto, TunnelSpecFromProto, state.TunnelSpec{Hold: new(state.Duration)})
	if spec.Hold == nil || *spec.Hold != 0 {
		t.Errorf("hold of 0 arrived as %v, want a pointer to 0: it differs from the default", spec.Hold)
	}
}

func TestConversionRepairsText(t *testing.T) {
	bad := "caf\xe9"
	got := roundTrip(t, SnapshotToProto, SnapshotFromProto, state.Snapshot{
		Requests: []state.Request{{Reason: bad, Roles: []string{bad}}},
	})
	if r := got.Requests[0]; r.Reason != "caf\uFFFD" || r.Roles[0] != "caf\uFFFD" {
		t.Errorf("text %q arrived as %q and %q", bad, r.Reason, r.Roles[0])
	}
	res := roundTrip(t, ResourceToProto, ResourceFromProto, Resource{Labels: map[string]string{bad: bad}})
	if res.Labels["caf\uFFFD"] != "caf\uFFFD" {
		t.Errorf("labels arrived as %q", res.Labels)
	}
}
