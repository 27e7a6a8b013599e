package tray

import (
	"context"
	"errors"
	"testing"

	"berth/notify/prompt"
)

// withSettings gives the tray settings that can be changed.
func withSettings(list *[]Setting) func(*desk, *Config) {
	return func(d *desk, cfg *Config) {
		cfg.Settings = func([]string) ([]Setting, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			return append([]Setting(nil), *list...), nil
		}
		cfg.ChangeSetting = func(_ context.Context, key, value string) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			for i := range *list {
				if (*list)[i].Key == key {
					(*list)[i].Value = value
				}
			}
			return d.agent.call("set %s=%s", key, value)
		}
	}
}

// Each setting is changed in the menu, which then says how it is.
func TestSettings(t *testing.T) {
	list := settings()
	onDesk(t, func(d *desk) {
		d.say(waking())
		d.click("Settings", "Notifications: on · turn off")
		d.want("a switch", d.agent.asked(), "set notifications.enabled=false")
		d.pause()
		d.kit.find(t, "Settings", "Notifications: off · turn on")

		d.prompter.text = "22:00-07:00"
		d.click("Settings", "Quiet hours: none…")
		d.want("a text", d.agent.asked(), "set notifications.quiet_hours=22:00-07:00")
		d.pause()
		d.kit.find(t, "Settings", "Quiet hours: 22:00-07:00…")
		d.click("Settings", "Quiet hours: 22:00-07:00…")
		d.want("the same text", d.agent.asked(), "")
		d.prompter.titles()

		d.click("Settings", "Session at teleport.example.com:443: Ask before it expires…")
		d.want("a choice", d.agent.asked(), "set renew.mode@teleport.example.com:443=off")
		d.want("its dialog", d.prompter.titles(), "Session at teleport.example.com:443")
		d.pause()

		d.prompter.err = prompt.ErrCanceled
		d.click("Settings", "Quiet hours: 22:00-07:00…")
		d.want("no text", d.agent.asked()+d.notifier.titles(), "")
		d.agent.fail = errors.New("the config is read-only")
		d.click("Settings", "Notifications: off · turn on")
		d.want("a failure", d.notifier.titles(), "Not changed: Notifications")
		d.agent.asked()

		d.away()
		d.agent.fail = nil
		d.click("Settings", "Start at login: off · turn on")
		d.want("without an agent", d.agent.asked(), "set start_tray=true")
		d.pause()
		d.kit.find(t, "Settings", "Start at login: on · turn off")
	}, withSettings(&list))
}

func (d *desk) want(what, got, want string) {
	d.Helper()
	if got != want {
		d.Errorf("%s: %q, want %q", what, got, want)
	}
}
