//go:build !windows && !darwin

package notify

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
)

func icon(t *testing.T, width, height int) []byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	img.SetNRGBA(1, 0, color.NRGBA{200, 100, 50, 100})
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestPicture(t *testing.T) {
	got := picture(icon(t, 2, 1))
	want := pixels{Width: 2, Height: 1, Stride: 8, Alpha: true, BitsPerSample: 8, Channels: 4,
		Data: []byte{0, 0, 0, 0, 200, 100, 50, 100}}
	if diff := cmp.Diff(any(want), got); diff != "" {
		t.Errorf("picture() (-want +got):\n%s", diff)
	}
	if s := dbus.SignatureOf(got).String(); s != "(iiibiiay)" {
		t.Errorf("its signature is %s, want (iiibiiay)", s)
	}
	for name, data := range map[string][]byte{"nothing": nil, "no_picture": []byte("x"), "cut": icon(t, 2, 1)[:40], "too_large": icon(t, maxIcon+1, 1)} {
		if got := picture(data); got != nil {
			t.Errorf("picture(%s) = %v, want none", name, got)
		}
	}
}

func TestMessageHints(t *testing.T) {
	cfg := Config{AppName: "berth"}
	pic := picture(icon(t, 2, 1))
	for spec, want := range map[string]string{"": "image-data", "1.0": "icon_data", "1.1": "image_data", "1.2": "image-data", "2.0": "image-data"} {
		m := server{spec: spec}.message(Notification{Title: "x"}, cfg, pic)
		if _, ok := m.hints[want]; !ok || m.icon != "" {
			t.Errorf("a service of version %q got %v and icon %q, want the picture as %s", spec, m.hints, m.icon, want)
		}
	}
	for u, want := range map[Urgency]struct {
		level  byte
		expire int32
	}{UrgencyLow: {0, expireSoon}, UrgencyNormal: {1, expireServer}, UrgencyCritical: {2, expireNever}} {
		m := server{}.message(Notification{Title: "x", Urgency: u}, cfg, nil)
		if m.hints["urgency"].Value() != want.level || m.expire != want.expire || m.icon != "berth" {
			t.Errorf("urgency %d is %v for %d ms, want %v for %d ms", u, m.hints["urgency"], m.expire, want.level, want.expire)
		}
	}
}
