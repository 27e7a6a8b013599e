package tray

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"berth/agent/state"
	"berth/internal/plain"
	"berth/notify/prompt"
)

// SettingStart is the key of the one setting that is not the agent's: whether the tray
// starts at login.
const SettingStart = "start_tray"

// Setting is a setting in words, for the menu and the window.
type Setting struct {
	Key     string      `json:"key"`
	Title   string      `json:"title"`
	Help    string      `json:"help"`
	Kind    SettingKind `json:"kind"`
	Choices []WordsOf   `json:"choices,omitempty"` // of a text: values that have a name
	Value   string      `json:"value"`
	Line    int         `json:"line,omitempty"` // in the config; zero where it is not there
}

// SettingKind is how a setting is changed.
type SettingKind string

// The kinds of settings.
const (
	SettingSwitch SettingKind = "switch" // "true" or "false"
	SettingChoice SettingKind = "choice"
	SettingText   SettingKind = "text"
)

// WordsOf is one value of a choice, in words.
type WordsOf struct {
	Value string `json:"value"`
	Words string `json:"words"`
}

// settingItems are the settings as lines. What they are now stands in the label, so that
// it is heard as well as seen; a click on a switch turns it.
func settingItems(env Env) []Item {
	var items []Item
	for _, s := range env.Settings {
		if env.Away && s.Key != SettingStart {
			continue // it is the agent that writes the config
		}
		item := Item{Action: Action{Do: doSetting, Title: s.Key}}
		title := plain.Short(s.Title, maxName*2)
		switch s.Kind {
		case SettingSwitch:
			on := s.Value == "true"
			item.Action.Text = strconv.FormatBool(!on)
			item.Label = title + ": " + map[bool]string{true: "on · turn off", false: "off · turn on"}[on]
		default:
			item.Label = fmt.Sprintf("%s: %s…", title, plain.Short(s.words(), maxName))
		}
		items = append(items, item)
	}
	return items[:min(len(items), maxSettings)]
}

// words are a setting's value as a person reads it.
func (s Setting) words() string {
	for _, c := range s.Choices {
		if c.Value == s.Value {
			return c.Words
		}
	}
	return cmp.Or(s.Value, "none")
}

// lookAtSettings has the menu show the settings as they are.
func (f *front) lookAtSettings() {
	if f.Settings == nil {
		return
	}
	list, err := f.Settings(proxiesOf(f.snapshot))
	if err != nil {
		f.Logger.Debug("not all settings are known", "err", err)
	}
	f.env.Settings = list
}

// proxiesOf are the proxies that have a profile, or several in as many homes.
func proxiesOf(s state.Snapshot) []string {
	var proxies []string
	for _, p := range s.Profiles {
		if !slices.Contains(proxies, p.Proxy) {
			proxies = append(proxies, p.Proxy)
		}
	}
	return proxies
}

// setting changes a setting: a switch at once, anything else after a question.
func (f *front) setting(ctx context.Context, a Action) {
	i := slices.IndexFunc(f.env.Settings, func(s Setting) bool { return s.Key == a.Title })
	if i < 0 {
		return // the line has gone
	}
	s := f.env.Settings[i]
	f.beside(ctx, a, func(ctx context.Context) func() {
		value, err := f.nextValue(ctx, s, a.Text)
		if err == nil && value != s.Value {
			err = f.ChangeSetting(ctx, s.Key, value)
		}
		return func() {
			f.answerFailure(ctx, a, "Not changed: "+plain.Short(s.Title, maxName*2), err)
			f.lookAtSettings()
		}
	})
}

// nextValue is what a person wants a setting to be; next is a switch's.
func (f *front) nextValue(ctx context.Context, s Setting, next string) (string, error) {
	q := prompt.Question{Title: s.Title, Text: s.Help, OK: "Save", Initial: s.Value}
	switch s.Kind {
	case SettingSwitch:
		return next, nil
	case SettingChoice:
		for _, c := range s.Choices {
			q.Choices = append(q.Choices, c.Words)
		}
		q.Text = fmt.Sprintf("%s\nNow: %s", s.Help, s.words())
		i, err := f.Prompter.Choose(ctx, q)
		if err != nil {
			return "", err
		}
		return s.Choices[i].Value, nil
	default:
		return f.Prompter.Text(ctx, q)
	}
}
