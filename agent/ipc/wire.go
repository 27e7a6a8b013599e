package ipc

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// ToProto returns v, a struct, as the message P. A field goes to the field of
// the same name, whatever its case. Text that is not UTF-8 is repaired:
// protobuf refuses it, and names come from others. A zero time or duration is
// absent on the wire; behind a pointer only nil is.
func ToProto[P any](v any) *P {
	m, src := new(P), reflect.New(reflect.TypeOf(v)).Elem()
	src.Set(reflect.ValueOf(v))
	moverOf(reflect.TypeFor[P](), src.Type())(reflect.ValueOf(m).Elem(), src)
	return m
}

// FromProto is the way back. Lists and maps are never nil, so that their JSON
// is [] or {} and not null.
func FromProto[T any](m proto.Message) T {
	var v T
	src := reflect.ValueOf(m)
	moverOf(reflect.TypeFor[T](), src.Type())(reflect.ValueOf(&v).Elem(), src)
	return v
}

func toProtos[P, T any](list []T) []*P {
	out := make([]*P, len(list))
	for i, v := range list {
		out[i] = ToProto[P](v)
	}
	return out
}

// FromProtos is FromProto for a list.
func FromProtos[T any, M proto.Message](list []M) []T {
	out := make([]T, len(list))
	for i, m := range list {
		out[i] = FromProto[T](m)
	}
	return out
}

// A mover sets dst to what src says. Both are addressable, unless they are
// pointers: times are then looked at without a copy on the heap for each.
type mover func(dst, src reflect.Value)

// movers has the mover of each pair of types: it is made once.
var movers sync.Map // of [2]reflect.Type to mover

func moverOf(dst, src reflect.Type) mover {
	key := [2]reflect.Type{dst, src}
	if known, ok := movers.Load(key); ok {
		return known.(mover)
	}
	made := newMover(dst, src)
	movers.Store(key, made)
	return made
}

var (
	timeType     = reflect.TypeFor[time.Time]()
	stampType    = reflect.TypeFor[*timestamppb.Timestamp]()
	durationType = reflect.TypeFor[*durationpb.Duration]()
)

// newMover panics where two types do not fit, or a struct has a field without
// a partner: a programmer's mistake, which the tests find for every type.
func newMover(dst, src reflect.Type) mover {
	switch {
	case dst == stampType || dst == durationType:
		return wellKnownToProto(dst, src)
	case src == stampType || src == durationType:
		return wellKnownFromProto(dst, src)
	case dst.Kind() == reflect.Pointer, src.Kind() == reflect.Pointer:
		return pointerMover(dst, src)
	case dst.Kind() != src.Kind() && (!isInt(dst) || !isInt(src)):
		panic(fmt.Sprintf("[unexpected] ipc: no way from %s to %s", src, dst))
	}
	return sameKindMover(dst, src)
}

func sameKindMover(dst, src reflect.Type) mover {
	switch kind := dst.Kind(); {
	case kind == reflect.Struct:
		return structMover(dst, src)
	case kind == reflect.Slice && dst.Elem().Kind() == reflect.Uint8:
		return reflect.Value.Set
	case kind == reflect.Slice:
		return sliceMover(dst, src)
	case kind == reflect.Map:
		return moveTexts
	case kind == reflect.String:
		return func(dst, src reflect.Value) { dst.SetString(utf8(src.String())) }
	case kind == reflect.Bool:
		return func(dst, src reflect.Value) { dst.SetBool(src.Bool()) }
	case isInt(dst):
		return func(dst, src reflect.Value) { dst.SetInt(src.Int()) }
	}
	panic(fmt.Sprintf("[unexpected] ipc: no rule for %s", dst))
}

func isInt(t reflect.Type) bool { return t.Kind() == reflect.Int || t.Kind() == reflect.Int64 }

// structMover pairs the fields by name.
func structMover(dst, src reflect.Type) mover {
	type pair struct {
		to, from int
		move     mover
	}
	from := make(map[string]int)
	for i := range src.NumField() {
		if f := src.Field(i); f.IsExported() {
			from[strings.ToLower(f.Name)] = i
		}
	}
	var pairs []pair
	for to := range dst.NumField() {
		f := dst.Field(to)
		if !f.IsExported() {
			continue
		}
		i, ok := from[strings.ToLower(f.Name)]
		if !ok {
			panic(fmt.Sprintf("[unexpected] ipc: %s has nothing for %s.%s", src, dst, f.Name))
		}
		pairs = append(pairs, pair{to, i, moverOf(f.Type, src.Field(i).Type)})
	}
	if len(pairs) != len(from) {
		panic(fmt.Sprintf("[unexpected] ipc: %s has more fields than %s", src, dst))
	}
	return func(dst, src reflect.Value) {
		for _, p := range pairs {
			p.move(dst.Field(p.to), src.Field(p.from))
		}
	}
}

// pointerMover is for structs, either of which may be behind a pointer. One
// that is nil is nil on the other side, or a struct without content.
func pointerMover(dst, src reflect.Type) mover {
	elem := func(t reflect.Type) reflect.Type {
		if t.Kind() == reflect.Pointer {
			return t.Elem()
		}
		return t
	}
	inner, none := moverOf(elem(dst), elem(src)), reflect.Zero(elem(src))
	return func(dst, src reflect.Value) {
		if src.Kind() == reflect.Pointer {
			switch {
			case !src.IsNil():
				src = src.Elem()
			case dst.Kind() == reflect.Pointer:
				return
			default:
				src = none
			}
		}
		if dst.Kind() == reflect.Pointer {
			dst.Set(reflect.New(dst.Type().Elem()))
			dst = dst.Elem()
		}
		inner(dst, src)
	}
}

func sliceMover(dst, src reflect.Type) mover {
	inner := moverOf(dst.Elem(), src.Elem())
	return func(dst, src reflect.Value) {
		n := src.Len()
		dst.Set(reflect.MakeSlice(dst.Type(), n, n))
		for i := range n {
			inner(dst.Index(i), src.Index(i))
		}
	}
}

func moveTexts(dst, src reflect.Value) {
	texts := make(map[string]string, src.Len())
	for it := src.MapRange(); it.Next(); {
		texts[utf8(it.Key().String())] = utf8(it.Value().String())
	}
	dst.Set(reflect.ValueOf(texts))
}

func timeIn(v reflect.Value) *time.Time { return v.Addr().Interface().(*time.Time) }

// wellKnownToProto is for times and durations, and pointers to them.
func wellKnownToProto(dst, src reflect.Type) mover {
	set := func(dst, src reflect.Value) { dst.Set(reflect.ValueOf(durationpb.New(time.Duration(src.Int())))) }
	if dst == stampType {
		set = func(dst, src reflect.Value) { dst.Set(reflect.ValueOf(timestamppb.New(*timeIn(src)))) }
	}
	switch {
	case src.Kind() == reflect.Pointer:
		return func(dst, src reflect.Value) {
			if !src.IsNil() {
				set(dst, src.Elem())
			}
		}
	case src == timeType:
		return func(dst, src reflect.Value) {
			if !timeIn(src).IsZero() { // in whatever zone
				set(dst, src)
			}
		}
	}
	return func(dst, src reflect.Value) {
		if !src.IsZero() {
			set(dst, src)
		}
	}
}

func wellKnownFromProto(dst, src reflect.Type) mover {
	set := func(dst, src reflect.Value) { dst.SetInt(int64(src.Interface().(*durationpb.Duration).AsDuration())) }
	if src == stampType {
		set = func(dst, src reflect.Value) { *timeIn(dst) = src.Interface().(*timestamppb.Timestamp).AsTime() }
	}
	behind := dst.Kind() == reflect.Pointer
	return func(dst, src reflect.Value) {
		if src.IsNil() {
			return
		}
		if behind {
			dst.Set(reflect.New(dst.Type().Elem()))
			dst = dst.Elem()
		}
		set(dst, src)
	}
}
