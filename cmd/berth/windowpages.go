package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/doctor"
	"berth/internal/link"
	"berth/internal/paths"
	"berth/internal/plain"
	"berth/internal/replay"
	"berth/internal/web"
	"berth/tray"
	"berth/tray/autostart"
)

// examinedJSON is what the window shows of the doctor.
type examinedJSON struct {
	Findings []doctor.Finding `json:"findings"`
}

// examined runs "berth doctor" in a process of its own, as the tray does.
func examined(ctx context.Context, flags ...string) (examinedJSON, error) {
	self, err := ownProgram()
	if err != nil {
		return examinedJSON{}, err
	}
	findings, err := askDoctor(ctx, self, flags...)
	return examinedJSON{Findings: findings}, err
}

// mend has the doctor do what is safe about its findings, or about one.
func mend(ctx context.Context, body []byte) (any, error) {
	var which struct{ Name string }
	if err := json.Unmarshal(body, &which); err != nil {
		return nil, fmt.Errorf("the finding is not understood: %w", err)
	}
	return examined(ctx, "--fix="+cmp.Or(which.Name, fixAll))
}

// logJSON is the end of the agent's log.
type logJSON struct {
	Path  string   `json:"path"`
	Lines []string `json:"lines"`
}

// maxLogLines bounds what the window shows of the log.
const maxLogLines = 10_000

func logEnd(path, lines string) (logJSON, error) {
	n, err := strconv.Atoi(lines)
	if err != nil || n < 1 {
		n = 200
	}
	log, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return logJSON{Path: path, Lines: []string{}}, nil
	}
	if err != nil {
		return logJSON{}, fmt.Errorf("read the log: %w", err)
	}
	defer func() { _ = log.Close() }()
	var text bytes.Buffer
	if err := copyTail(&text, log, min(n, maxLogLines)); err != nil {
		return logJSON{}, fmt.Errorf("read the log: %w", err)
	}
	return logJSON{Path: path, Lines: strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")}, nil
}

// configJSON is the config file, and what of it the window changes.
type configJSON struct {
	Path     string         `json:"path"`
	Text     string         `json:"text"`
	Settings []tray.Setting `json:"settings"`
}

// configPage shows the config.
func (a *app) configPage(ctx context.Context, c *client.Client, path string) (configJSON, error) {
	var proxies []string
	if s, err := c.Snapshot(ctx); err == nil { // without an agent there are those of the file alone
		for _, p := range s.Profiles {
			if !slices.Contains(proxies, p.Proxy) {
				proxies = append(proxies, p.Proxy)
			}
		}
	}
	text, list, err := a.settings(path, proxies)
	if err != nil && text == "" {
		return configJSON{}, err
	}
	return configJSON{Path: path, Text: plain.Text(text), Settings: list}, nil
}

// settings are those of the config and of these proxies in it, and the tray's own. A
// file with mistakes has its text, the tray's own setting and an error.
func (a *app) settings(path string, proxies []string) (text string, shown []tray.Setting, err error) {
	text, list, err := config.Settings(path, proxies)
	shown = []tray.Setting{}
	for _, s := range list {
		shown = append(shown, settingWords(s))
	}
	entry, ok := a.trayEntry()
	if !ok {
		return text, shown, err
	}
	now, lookErr := autostart.Look(entry, a.env)
	if lookErr != nil {
		return text, shown, errors.Join(err, lookErr)
	}
	return text, append(shown, tray.Setting{
		Key: tray.SettingStart, Title: "Start at login", Kind: tray.SettingSwitch, Value: strconv.FormatBool(now.Installed && !now.Off),
		Help: "The tray: its icon, menu and notifications.",
	}), err
}

func settingWords(s config.Setting) tray.Setting {
	w := tray.Setting{Key: s.Key, Value: s.Value, Line: s.Line, Kind: tray.SettingText}
	switch s.Key {
	case config.SettingNotifications:
		w.Title, w.Kind, w.Help = "Notifications", tray.SettingSwitch, "Of logins, access requests and tunnels that do not work."
	case config.SettingQuietHours:
		w.Title, w.Help = "Quiet hours", "Such as 22:00-07:00, in local time; empty for none. No new notification is shown then."
	case config.SettingBrowser:
		w.Title, w.Help = "Browser for login pages", "A command; %s stands for the address. Empty for the system's own."
		w.Choices = []tray.WordsOf{{Value: "", Words: "the system's own"}}
	case config.SettingRenew:
		w.Key += "@" + s.Proxy
		w.Title, w.Kind = "Session at "+plain.Line(s.Proxy), tray.SettingChoice
		w.Choices = []tray.WordsOf{
			{Value: string(state.RenewAsk), Words: "Ask before it expires"},
			{Value: string(state.RenewAuto), Words: "Renew it before it expires"},
			{Value: string(state.RenewOff), Words: "Let it expire"},
		}
		w.Help = "What berth does before the session expires."
	}
	return w
}

// trayEntry is what starts the tray at login; none with a home of its own.
func (a *app) trayEntry() (autostart.Entry, bool) {
	self, err := ownProgram()
	return trayAtLogin(self), err == nil && a.env(paths.HomeVar) == ""
}

// takeSetting takes a setting from the window.
func (a *app) takeSetting(ctx context.Context, c *client.Client, body []byte) error {
	var s struct{ Key, Value string }
	if err := json.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("the setting is not understood: %w", err)
	}
	return a.changeSetting(ctx, c, s.Key, s.Value)
}

// changeSetting changes one of settings by its key.
func (a *app) changeSetting(ctx context.Context, c *client.Client, key, value string) error {
	if key != tray.SettingStart {
		key, proxy, _ := strings.Cut(key, "@")
		return c.ChangeSetting(ctx, client.SettingChange{Key: key, Proxy: proxy, Value: value})
	}
	entry, ok := a.trayEntry()
	if !ok {
		return errors.New("the tray of this berth is started by hand")
	}
	var err error
	if value == "true" {
		_, err = autostart.Install(entry, a.env)
	} else {
		_, err = autostart.Uninstall(a.env)
	}
	return err
}

// linkJSON is a berth:// link.
type linkJSON struct {
	Link string `json:"link"`
}

// linkTo is a link for others: to a request or a recording by its id, or one that adds a
// tunnel like the one of that name.
func (a *app) linkTo(ctx context.Context, c *client.Client, verb, to string) (linkJSON, error) {
	if err := a.policy.Load().Allows(config.FeatureLinks); err != nil {
		return linkJSON{}, err
	}
	l := link.Link{Verb: link.Verb(verb), ID: to}
	switch l.Verb {
	case link.Request, link.Recording:
	case link.Add:
		t, err := c.Tunnel(ctx, to)
		if err != nil {
			return linkJSON{}, err
		}
		l = tray.LinkTo(t, t.Name)
	default:
		return linkJSON{}, fmt.Errorf("there is no link %q for a page to copy", verb)
	}
	return linkJSON{Link: l.String()}, l.Check()
}

// topicsJSON are the pages of help.
type topicsJSON struct {
	Topics []topicJSON `json:"topics"`
}

type topicJSON struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Text  string `json:"text"`
}

func topicsPage() topicsJSON {
	var page topicsJSON
	for _, t := range topics {
		page.Topics = append(page.Topics, topicJSON{Name: t.name, Title: t.short, Text: t.text})
	}
	return page
}

// licensesJSON says what berth is made of.
type licensesJSON struct {
	Text string `json:"text"`
}

// showRecording writes the page that plays a recording.
func (a *app) showRecording(c *client.Client) func(ctx context.Context, cluster, id string, w io.Writer) error {
	return func(ctx context.Context, cluster, id string, w io.Writer) error {
		// The page can be saved as a file that holds the whole recording.
		if err := a.policy.Load().Allows(config.FeatureRecordingExport); err != nil {
			return err
		}
		s, err := openRecording(ctx, c, client.RecordingRead{ID: id, Cluster: cluster})
		if err != nil {
			return err
		}
		switch {
		case s.recording.Live:
			return &ipc.Error{
				Code: ipc.CodeFailed, Message: "the session goes on: its recording can be watched here when it has ended",
				Hint: "join it: " + s.recording.JoinCommand(),
			}
		case s.first == state.RecordingAwaited:
			return &ipc.Error{
				Code: ipc.CodeFailed, Message: "the session has ended; its recording is not uploaded yet",
				Hint: "open it again in a moment",
			}
		}
		page, err := replay.NewHTML(w, web.Player(), replay.NewHeader(s.recording, s.reader))
		if err != nil {
			return err
		}
		quiet := *a
		quiet.err = io.Discard
		_, _, err = s.copyTo(ctx, &quiet, page)
		return err
	}
}
