package simkube

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// protoMedia is how newer clients send what their typed calls create.
const protoMedia = "application/vnd.kubernetes.protobuf"

// message says how the fields of a protobuf message are called in JSON. What
// is not in it is left out.
type message map[protowire.Number]protoField

// protoField is one field: a string unless it says otherwise.
type protoField struct {
	name    string
	message message // its message, for those that are one
	list    bool    // may occur often
	kind    protoKind
}

type protoKind int

const (
	protoString protoKind = iota
	protoInt
	protoMap      // of strings
	protoBytesMap // of bytes, which are base64 in JSON
)

func protoMeta() message {
	return message{
		1: {name: "name"}, 2: {name: "generateName"}, 3: {name: "namespace"}, 6: {name: "resourceVersion"},
		11: {name: "labels", kind: protoMap}, 12: {name: "annotations", kind: protoMap},
	}
}

// protoKinds are the kinds that kubectl creates by typed calls.
func protoKinds() map[string]message {
	meta := protoField{name: "metadata", message: protoMeta()}
	env := message{1: {name: "name"}, 2: {name: "value"}}
	ports := message{1: {name: "name"}, 3: {name: "containerPort", kind: protoInt}, 4: {name: "protocol"}}
	pod := message{2: {name: "containers", list: true, message: message{
		1: {name: "name"}, 2: {name: "image"}, 3: {name: "command", list: true}, 4: {name: "args", list: true},
		6: {name: "ports", list: true, message: ports}, 7: {name: "env", list: true, message: env},
	}}}
	attributes := message{
		1: {name: "namespace"}, 2: {name: "verb"}, 3: {name: "group"}, 4: {name: "version"}, 5: {name: "resource"},
		6: {name: "subresource"}, 7: {name: "name"},
	}
	return map[string]message{
		"Namespace":      {1: meta},
		"ServiceAccount": {1: meta},
		"ConfigMap":      {1: meta, 2: {name: "data", kind: protoMap}, 3: {name: "binaryData", kind: protoBytesMap}},
		"Secret":         {1: meta, 2: {name: "data", kind: protoBytesMap}, 3: {name: "type"}},
		"Deployment": {1: meta, 2: {name: "spec", message: message{
			1: {name: "replicas", kind: protoInt},
			2: {name: "selector", message: message{1: {name: "matchLabels", kind: protoMap}}},
			3: {name: "template", message: message{1: meta, 2: {name: "spec", message: pod}}},
		}}},
		"Pod": {1: meta, 2: {name: "spec", message: pod}},
		"SelfSubjectAccessReview": {1: meta, 2: {name: "spec", message: message{
			1: {name: "resourceAttributes", message: attributes},
			2: {name: "nonResourceAttributes", message: message{1: {name: "path"}, 2: {name: "verb"}}},
		}}},
		"SelfSubjectRulesReview": {1: meta, 2: {name: "spec", message: message{1: {name: "namespace"}}}},
		"SelfSubjectReview":      {1: meta},
	}
}

var errProto = errors.New("the protobuf is cut short or of an unknown kind")

// decodeProto reads an object in the wrapping that Kubernetes gives protobuf.
func decodeProto(raw []byte) (object, error) {
	raw, ok := bytes.CutPrefix(raw, []byte("k8s\x00"))
	if !ok {
		return nil, errProto
	}
	var wrapped []byte
	wrapper := object{}
	err := eachField(raw, func(num protowire.Number, _ uint64, b []byte) error {
		if num == 1 {
			return message{1: {name: "apiVersion"}, 2: {name: "kind"}}.decode(b, wrapper)
		}
		if num == 2 {
			wrapped = b
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	m, ok := protoKinds()[str(wrapper, "kind")]
	if !ok {
		return nil, fmt.Errorf("%w: %q", errProto, str(wrapper, "kind"))
	}
	return wrapper, m.decode(wrapped, wrapper)
}

// eachField calls f for every field: with its number, or its bytes.
func eachField(raw []byte, f func(num protowire.Number, v uint64, b []byte) error) error {
	for len(raw) > 0 {
		num, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return errProto
		}
		raw = raw[n:]
		var v uint64
		var b []byte
		switch kind {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(raw)
		case protowire.BytesType:
			b, n = protowire.ConsumeBytes(raw)
		default:
			n = protowire.ConsumeFieldValue(num, kind, raw)
		}
		if n < 0 {
			return errProto
		}
		raw = raw[n:]
		if err := f(num, v, b); err != nil {
			return err
		}
	}
	return nil
}

// decode reads a message into an object.
func (m message) decode(raw []byte, o object) error {
	return eachField(raw, func(num protowire.Number, v uint64, b []byte) error {
		f, ok := m[num]
		if !ok {
			return nil
		}
		switch {
		case f.kind == protoMap || f.kind == protoBytesMap:
			return f.decodeEntry(b, o)
		case f.kind == protoInt:
			o[f.name] = float64(int64(v))
		case f.message != nil:
			child := object{}
			if err := f.message.decode(b, child); err != nil {
				return err
			}
			f.set(o, child)
		case len(b) > 0:
			f.set(o, string(b))
		}
		return nil
	})
}

func (f protoField) set(o object, v any) {
	if f.list {
		o[f.name] = append(list(o, f.name), v)
		return
	}
	o[f.name] = v
}

// decodeEntry reads one entry of a map.
func (f protoField) decodeEntry(raw []byte, o object) error {
	var k, v []byte
	err := eachField(raw, func(num protowire.Number, _ uint64, b []byte) error {
		if num == 1 {
			k = b
		} else {
			v = b
		}
		return nil
	})
	if err != nil {
		return err
	}
	m, ok := o[f.name].(object)
	if !ok {
		m = object{}
		o[f.name] = m
	}
	if f.kind == protoBytesMap {
		m[string(k)] = base64.StdEncoding.EncodeToString(v)
	} else {
		m[string(k)] = string(v)
	}
	return nil
}
