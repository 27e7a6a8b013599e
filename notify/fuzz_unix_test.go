//go:build !windows && !darwin

package notify

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"testing"

	"github.com/godbus/dbus/v5"
)

// heard counts what a bus passes on.
type heard struct{ acts, ends int }

func (h *heard) acted(string, string) { h.acts++ }
func (h *heard) closed(string)        { h.ends++ }
func (h *heard) expired(string)       { h.ends++ }
func (h *heard) fresh()               {}

// FuzzBusMessage reads any message of the bus: only one of the service itself about a
// notification that is shown, and one of its buttons, does anything.
func FuzzBusMessage(f *testing.F) {
	const owner = ":1.7"
	say := func(sender, name string, body ...any) {
		m := &dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/Notifications")), dbus.FieldInterface: dbus.MakeVariant(serverName),
			dbus.FieldMember: dbus.MakeVariant(name), dbus.FieldSender: dbus.MakeVariant(sender),
			dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(body...)),
		}, Body: body}
		var b bytes.Buffer
		if err := m.EncodeTo(&b, binary.LittleEndian); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	say(owner, "ActionInvoked", uint32(1), "yes")
	say(owner, "NotificationClosed", uint32(1), uint32(2))
	say(":1.8", "ActionInvoked", uint32(1), "yes")
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := dbus.DecodeMessage(bytes.NewReader(raw))
		if err != nil || m.Type != dbus.TypeSignal {
			return
		}
		text := func(h dbus.HeaderField) string { s, _ := m.Headers[h].Value().(string); return s }
		s := &dbus.Signal{Sender: text(dbus.FieldSender), Name: text(dbus.FieldInterface) + "." + text(dbus.FieldMember), Body: m.Body}
		b := newBus(Config{Logger: slog.New(slog.DiscardHandler)}, func() (string, error) { return "", nil }, &plainer{})
		b.server.owner, b.byNum[1], b.shown["one"] = owner, "one", shown{num: 1, keys: []string{"yes"}}
		var to heard
		b.signal(s, &to)
		_, _ = newOwner(s) // any body
		if to.acts+to.ends > 1 || to.acts+to.ends > 0 && s.Sender != owner {
			t.Errorf("%+v did %+v", s, to)
		}
	})
}
