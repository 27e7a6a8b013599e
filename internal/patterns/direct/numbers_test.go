package direct_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"

	gogo "github.com/gogo/protobuf/proto"
	_ "github.com/gravitational/teleport/api/client/proto" // registers Teleport's messages
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"berth/internal/patterns/direct/authpb"
)

// TestNumbers compares every field and every value with Teleport's own.
func TestNumbers(t *testing.T) {
	theirs := &descriptorpb.DescriptorProto{} // what Teleport's files declare, as if in one message
	for _, name := range []string{"client/proto/authservice", "client/proto/certs", "types/types"} {
		add(theirs, oldFile(t, "teleport/legacy/"+name+".proto"))
	}
	file, err := protoregistry.GlobalFiles.FindFileByPath("teleport/legacy/client/proto/event.proto")
	if err != nil {
		t.Fatal(err)
	}
	add(theirs, protodesc.ToFileDescriptorProto(file))

	ours := protodesc.ToFileDescriptorProto(authpb.File_authpb_messages_proto)
	compared := compareEnums(t, "", ours.EnumType, theirs.EnumType)
	for _, m := range ours.MessageType {
		compared += compareMessage(t, m, theirs.NestedType)
	}
	if compared < 50 {
		t.Errorf("only %d fields and values were compared", compared)
	}
}

// TestCalls looks for every call in Teleport's own service, with messages of the
// same names.
func TestCalls(t *testing.T) {
	calls := make(map[string]*descriptorpb.MethodDescriptorProto)
	for _, s := range oldFile(t, "teleport/legacy/client/proto/authservice.proto").Service {
		for _, m := range s.Method {
			calls["proto."+s.GetName()+"."+m.GetName()] = m
		}
	}
	service := authpb.File_authpb_auth_proto.Services().Get(0)
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		call := calls[string(m.FullName())]
		if call == nil {
			t.Errorf("Teleport has no %s", m.FullName())
			continue
		}
		in, out := last(call.GetInputType()), last(call.GetOutputType())
		if string(m.Input().Name()) != in || string(m.Output().Name()) != out ||
			m.IsStreamingServer() != call.GetServerStreaming() || call.GetClientStreaming() {
			t.Errorf("%s takes %s and returns %s, here %s and %s", m.FullName(), in, out, m.Input().Name(), m.Output().Name())
		}
	}
}

func last(name string) string { return string(protoreflect.FullName(name[1:]).Name()) }

// oldFile returns a file of those that Teleport has generated with gogo.
func oldFile(t *testing.T, name string) *descriptorpb.FileDescriptorProto {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(gogo.FileDescriptor(name)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	text, err := io.ReadAll(zipped)
	if err != nil {
		t.Fatal(err)
	}
	file := &descriptorpb.FileDescriptorProto{}
	if err := proto.Unmarshal(text, file); err != nil {
		t.Fatal(err)
	}
	return file
}

func add(to *descriptorpb.DescriptorProto, file *descriptorpb.FileDescriptorProto) {
	to.NestedType = append(to.NestedType, file.MessageType...)
	to.EnumType = append(to.EnumType, file.EnumType...)
}

type named interface{ GetName() string }

func find[T named](list []T, name string) (found T) {
	for _, v := range list {
		if v.GetName() == name {
			return v
		}
	}
	return found
}

func compareMessage(t *testing.T, ours *descriptorpb.DescriptorProto, theirs []*descriptorpb.DescriptorProto) (compared int) {
	t.Helper()
	other := find(theirs, ours.GetName())
	if other == nil {
		t.Errorf("Teleport has no message %s", ours.GetName())
		return 0
	}
	for _, f := range ours.Field {
		compared++
		switch of := find(other.Field, f.GetName()); {
		case of == nil:
			t.Errorf("%s has no field %s", ours.GetName(), f.GetName())
		case of.GetNumber() != f.GetNumber(), of.GetType() != f.GetType(), of.GetLabel() != f.GetLabel(),
			f.GetTypeName() != "" && last(f.GetTypeName()) != last(of.GetTypeName()):
			t.Errorf("%s.%s is\n%v\nhere\n%v", ours.GetName(), f.GetName(), of, f)
		}
	}
	compared += compareEnums(t, ours.GetName()+".", ours.EnumType, other.EnumType)
	return compared
}

func compareEnums(t *testing.T, in string, ours, theirs []*descriptorpb.EnumDescriptorProto) (compared int) {
	t.Helper()
	for _, e := range ours {
		other := find(theirs, e.GetName())
		for _, v := range e.Value {
			compared++
			if of := find(other.GetValue(), v.GetName()); of == nil || of.GetNumber() != v.GetNumber() {
				t.Errorf("%s%s.%s is %v, here %v", in, e.GetName(), v.GetName(), of, v)
			}
		}
	}
	return compared
}
