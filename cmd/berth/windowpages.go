package main

import (
	"bytes"
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
	Path     string        `json:"path"`
	Text     string        `json:"text"`
	Settings []settingJSON `json:"settings"`
}

// settingJSON is one setting, in words.
type settingJSON struct {
	Key     string   `json:"key"`
	Title   string   `json:"title"`
	Help    string   `json:"help"`
	Kind    string   `json:"kind"` // switch, choice or text
	Choices []string `json:"choices,omitempty"`
	Value   string   `json:"value"`
	Line    int      `json:"line,omitempty"` // in the file; zero where it is not there
}

// startTray is the key of the one setting that is not in the config.
const startTray = "start_tray"

// settingsOf shows the config. A file with mistakes is shown without settings.
func (a *app) settingsOf(ctx context.Context, c *client.Client, path string) (configJSON, error) {
	var proxies []string
	if s, err := c.Snapshot(ctx); err == nil { // without an agent there are those of the file alone
		for _, p := range s.Profiles {
			if !slices.Contains(proxies, p.Proxy) {
				proxies = append(proxies, p.Proxy)
			}
		}
	}
	text, list, err := config.Settings(path, proxies)
	if err != nil && text == "" {
		return configJSON{}, err
	}
	shown := configJSON{Path: path, Text: plain.Text(text), Settings: []settingJSON{}}
	for _, s := range list {
		shown.Settings = append(shown.Settings, settingWords(s))
	}
	if entry, ok := a.trayEntry(); ok {
		now, err := autostart.Look(entry, a.env)
		if err != nil {
			return shown, err
		}
		shown.Settings = append(shown.Settings, settingJSON{
			Key: startTray, Title: "Start the tray when you log in", Kind: "switch", Value: strconv.FormatBool(now.Installed && !now.Off),
			Help: "The icon, its menu and the notifications.",
		})
	}
	return shown, nil
}

func settingWords(s config.Setting) settingJSON {
	w := settingJSON{Key: s.Key, Value: s.Value, Line: s.Line, Kind: "text"}
	switch s.Key {
	case config.SettingNotifications:
		w.Title, w.Kind, w.Help = "Show notifications", "switch", "Of logins, access requests and tunnels that do not work."
	case config.SettingQuietHours:
		w.Title, w.Help = "Quiet hours", "Such as 22:00-07:00, in local time. Only what cannot wait is shown then."
	case config.SettingBrowser:
		w.Title, w.Help = "Browser for login pages", "A command; %s stands for the address. Empty: the system's own."
	case config.SettingRenew:
		w.Key += "@" + s.Proxy
		w.Title, w.Kind = "Session at "+plain.Line(s.Proxy), "choice"
		w.Choices = []string{string(state.RenewAsk), string(state.RenewAuto), string(state.RenewOff)}
		w.Help = "What berth does before the session expires."
	}
	return w
}

// trayEntry is what starts the tray at login; none with a home of its own.
func (a *app) trayEntry() (autostart.Entry, bool) {
	self, err := ownProgram()
	return trayAtLogin(self), err == nil && a.env(paths.HomeVar) == ""
}

// changeSetting takes a setting from the window.
func (a *app) changeSetting(ctx context.Context, c *client.Client, body []byte) error {
	var s struct{ Key, Value string }
	if err := json.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("the setting is not understood: %w", err)
	}
	if s.Key != startTray {
		key, proxy, _ := strings.Cut(s.Key, "@")
		return c.ChangeSetting(ctx, client.SettingChange{Key: key, Proxy: proxy, Value: s.Value})
	}
	entry, ok := a.trayEntry()
	if !ok {
		return errors.New("the tray of this berth is started by hand")
	}
	var err error
	if s.Value == "true" {
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
