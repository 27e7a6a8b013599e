//go:build !windows && !darwin

package notify

import (
	"bytes"
	"image"
	"image/draw"
	"image/png"
	"strings"

	"github.com/godbus/dbus/v5"

	"berth/internal/plain"
	"berth/notify/internal/words"
)

const (
	maxButtons = 2  // some services drop those after the second or third
	maxIcon    = 96 // pixels
)

// How long the service shows something, as the specification says it.
const (
	expireServer int32 = -1
	expireNever  int32 = 0
	expireSoon   int32 = 6000 // milliseconds
)

// message is a notification as the service wants it.
type message struct {
	icon, summary, body string
	actions             []string // key, label, key, label …
	hints               map[string]dbus.Variant
	expire              int32
}

// message returns n in the words this service understands.
func (s server) message(n Notification, cfg Config, picture any) message {
	m := message{summary: n.Title, actions: []string{}, hints: map[string]dbus.Variant{}, expire: expireServer}
	body := n.Body
	buttons, text := n.buttons(maxButtons)
	if s.can["actions"] {
		// The text's own action comes last: some services make a button of it.
		for _, a := range buttons {
			m.actions = append(m.actions, a.Key, a.Label)
		}
		if text != nil {
			m.actions = append(m.actions, text.Key, text.Label)
		}
	} else if len(n.Actions) > 0 {
		body = strings.TrimPrefix(body+"\n"+where(n, cfg.AppName), "\n")
	}
	switch {
	case !s.can["body"] && len(s.can) > 0: // a service that says nothing shows a body
		m.summary = plain.Cut(strings.TrimSuffix(n.Title+": "+strings.ReplaceAll(body, "\n", " "), ": "), maxTitle+maxBody)
	case s.can["body-markup"]:
		m.body = words.Escape(body)
	default:
		m.body = words.WithoutTags(body)
	}
	m.urgency(n.Urgency)
	if n.Group != "" {
		m.hints["category"] = dbus.MakeVariant("x-berth." + n.Group)
	}
	if cfg.DesktopEntry != "" {
		m.hints["desktop-entry"] = dbus.MakeVariant(cfg.DesktopEntry)
	}
	if picture != nil {
		m.hints[s.pictureHint()] = dbus.MakeVariant(picture)
	} else {
		m.icon = words.Slug(cfg.AppName)
	}
	return m
}

// where tells a person whose desktop shows no buttons how to act.
func where(n Notification, app string) string {
	var labels []string
	for _, a := range n.Actions {
		labels = append(labels, a.Label)
	}
	return strings.Join(labels, ", ") + ": see " + app + `'s tray menu or "` + app + ` status".`
}

func (m *message) urgency(u Urgency) {
	level := byte(1)
	switch {
	case u <= UrgencyLow:
		level, m.expire = 0, expireSoon
		m.hints["transient"] = dbus.MakeVariant(true)
	case u >= UrgencyCritical:
		level, m.expire = 2, expireNever
	}
	m.hints["urgency"] = dbus.MakeVariant(level)
}

// pictureHint returns the picture's name in the service's version of the
// specification.
func (s server) pictureHint() string {
	switch s.spec {
	case "0.9", "1.0":
		return "icon_data"
	case "1.1":
		return "image_data"
	}
	return "image-data"
}

// pixels is a picture as the specification wants it.
type pixels struct {
	Width, Height, Stride int32
	Alpha                 bool
	BitsPerSample         int32
	Channels              int32
	Data                  []byte
}

// picture decodes a PNG. A file that is no PNG, or too large, is left out.
func picture(data []byte) any {
	cfg, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil || cfg.Width > maxIcon || cfg.Height > maxIcon {
		return nil
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return nil
	}
	out := image.NewNRGBA(image.Rect(0, 0, cfg.Width, cfg.Height))
	draw.Draw(out, out.Bounds(), img, img.Bounds().Min, draw.Src)
	return pixels{
		Width: int32(cfg.Width), Height: int32(cfg.Height), Stride: int32(out.Stride),
		Alpha: true, BitsPerSample: 8, Channels: 4, Data: out.Pix,
	}
}
