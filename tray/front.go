package tray

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/notify"
)

// Agent is the part of client.Client that the tray uses.
type Agent interface {
	Follow(ctx context.Context) iter.Seq2[state.Snapshot, error]
	Resources(ctx context.Context, q client.ResourceQuery) (list []client.Resource, unasked []string, err error)
	Tunnel(ctx context.Context, name string) (state.Tunnel, error)
	AddTunnel(ctx context.Context, spec state.TunnelSpec) (state.TunnelSpec, error)
	StartTunnel(ctx context.Context, name string) error
	StopTunnel(ctx context.Context, name string) error
	RestartTunnel(ctx context.Context, name string) error
	ChangeTunnel(ctx context.Context, name string, spec state.TunnelSpec) (state.TunnelSpec, error)
	RemoveTunnel(ctx context.Context, name string) error
	Login(ctx context.Context, start client.LoginStart, show func(e client.LoginEvent, answer func(secret string)) error) error
	CancelLogin(ctx context.Context, proxy, user string) error
	Logout(ctx context.Context, proxy, user string) (string, error)
	SnoozeRenewal(ctx context.Context, proxy, user string) (client.Snoozed, error)
	DismissNotice(ctx context.Context, id string) error
	DecideRequest(ctx context.Context, id string, approve bool, reason string) (state.Request, error)
	AssumeRequest(ctx context.Context, a client.Assume) (client.Assumed, error)
	DropRequests(ctx context.Context, ids []string, tunnel string) ([]string, error)
	RequestAbilities(ctx context.Context, profile string, resources []string) (client.RequestAbilities, error)
	CreateRequest(ctx context.Context, n client.NewRequest) (state.Request, error)
}

// Notifier shows notifications: methods of notify.Notifier.
type Notifier interface {
	Show(ctx context.Context, n notify.Notification) error
	Close(id string)
	Capabilities() notify.Capabilities
	Run(ctx context.Context) error
}

// Config says how to run the tray. What is not said to be optional must be set.
type Config struct {
	Logger *slog.Logger
	Agent  Agent
	// Notifier makes what shows notifications, which tells acted of a pressed
	// button and closed of a notification that a person has put away.
	Notifier func(acted func(id, key string), closed func(id string)) Notifier
	Prompter Prompter
	// StartAgent starts an agent and returns without waiting for it to answer.
	StartAgent func(ctx context.Context) error
	// StartAtOnce starts an agent when none answers at the beginning.
	StartAtOnce bool
	// Browse opens a login page if it is one of proxy's or of this machine.
	Browse func(ctx context.Context, url string, command []string, proxy string) error
	// OpenWindow opens berth's window at one of its pages, such as PageHome;
	// nil means that there is no window.
	OpenWindow func(ctx context.Context, page string) error
	// FollowLink is called with each berth:// link that the system hands to the
	// tray, and must return soon. Only macOS does that.
	FollowLink func(link string)
	// HasTSH reports whether there is a tsh.
	HasTSH func() bool
	// Settings returns what a person may change, with what is of these proxies; beside an
	// error it is what is known all the same. ChangeSetting changes one by its key. nil
	// means that the menu has no settings.
	Settings      func(proxies []string) ([]Setting, error)
	ChangeSetting func(ctx context.Context, key, value string) error
	// Doctor finds out what is wrong, and writes it to ReportFile.
	Doctor func(ctx context.Context) (Checkup, error)
	// Diagnostics is a text about this berth for those who help, without secrets.
	Diagnostics func(ctx context.Context) (string, error)
	// Show receives when the tray is started a second time; nil means that it
	// never does.
	Show <-chan struct{}
	// Open shows a file to the person.
	Open func(ctx context.Context, path string) error
	// Copy puts text on the clipboard.
	Copy func(ctx context.Context, text string) error
	// Client is Env's; nil means that no commands are offered.
	Client func(state.Tunnel) (name, command string, ok bool)
	// ConfigFile, LogFile and ReportFile are opened by the menu.
	ConfigFile, LogFile, ReportFile string
	Version                         string
	Docs                            string // what a person should know, as text
	// Rest is called now and then when the tray has become idle; nil means that
	// it is not.
	Rest func()
}

const (
	drawEvery  = time.Second      // the shortest time between two drawings
	startWait  = 20 * time.Second // for an agent that was started to answer
	offersKeep = 30 * time.Minute // a list of resources is asked for again after
	awayGrace  = 5 * time.Second  // that notices outlive the agent
)

// faceAgain are the times after the start at which icon and tooltip are drawn
// again: on Linux systray loses calls that come while it connects, and does not
// report when it has connected.
var faceAgain = []time.Duration{time.Second, 4 * time.Second, 25 * time.Second}

// Checkup is the doctor's result: in a few words, and the whole report.
type Checkup struct{ Title, Text, Report string }

// The pages of the window that the tray opens. A page of a tunnel or a request
// has its name or ID, escaped as in a URL, behind it.
const (
	PageHome       = ""
	PageTunnel     = "tunnels/"
	PageRequest    = "access/"
	PageAsk        = "access/new"
	PageRecordings = "recordings"
	PageDoctor     = "doctor"
	PageSettings   = "settings"
	PageHelp       = "help"
	PageAbout      = "about"
)

// Run shows the tray until ctx ends or the user quits it. It must be called on
// the main goroutine.
func Run(ctx context.Context, cfg Config) error {
	cfg.Logger = cfg.Logger.With("component", "tray")
	var errOver error
	err := withHost(ctx, cfg.Logger, func(ctx context.Context, hosted func() bool) error {
		return runTray(ctx, moodOff, cfg.FollowLink, func(ctx context.Context, m *menu) error {
			f := newFront(cfg, m)
			f.hosted = hosted
			errOver = f.run(ctx)
			return errOver
		})
	})
	if errors.Is(err, errQuit) {
		return nil
	}
	return err
}

var errQuit = errors.New("quit")

// front joins the agent, the menu and the notifications. What it remembers is
// run's alone; everything that takes time goes on beside it and comes back
// through a channel.
type front struct {
	Config
	menu     *menu
	notifier Notifier
	notes    *notes
	hosted   func() bool // whether anything shows the icon

	snapshots chan update // capacity 1: the newest
	pressed   chan press
	results   chan func() // for run to call

	held    map[string]int64 // clients that wait for a login, by proxy, when it was under way
	running map[Action]bool  // by what they do, so that nothing is done twice at once
	parts   sync.WaitGroup

	snapshot state.Snapshot
	env      Env
	known    bool // an answer, or that there is none, has come

	drawn     time.Time
	restless  bool        // something has happened since Rest was called
	due       *time.Timer // for the next drawing; nil means none is due
	asked     string      // for whom the resources were asked for
	askedAt   time.Time
	startedBy *time.Timer
}

// update is a snapshot, or that the agent is away.
type update struct {
	snapshot state.Snapshot
	err      error
}

// press is a button of a notification.
type press struct{ id, key string }

func newFront(cfg Config, m *menu) *front {
	f := &front{
		Config: cfg, menu: m,
		snapshots: make(chan update, 1), pressed: make(chan press, queued), results: make(chan func()),
		running: make(map[Action]bool), held: make(map[string]int64), hosted: func() bool { return true },
		env: Env{GOOS: runtime.GOOS, Away: true, Client: cfg.Client, Window: cfg.OpenWindow != nil},
	}
	f.notifier = cfg.Notifier(f.press, f.dismissed)
	f.notes = newNotes(f.notifier, cfg.Logger)
	return f
}

// press takes a pressed button over. Its caller does not wait.
func (f *front) press(id, key string) {
	select {
	case f.pressed <- press{id, key}:
	default:
		f.Logger.Warn("a pressed button is lost: earlier ones are still being dealt with", "notification", id)
	}
}

// dismissed handles a notification that the user closed.
func (f *front) dismissed(id string) { f.press(id, keyOf(state.NoticeAction{Verb: state.VerbDismiss})) }

// run follows the agent until ctx ends or the user quits.
func (f *front) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	f.parts.Go(func() { f.follow(ctx) })
	f.parts.Go(func() {
		if err := f.notifier.Run(ctx); err != nil {
			f.Logger.Error("notifications have ended", "err", err)
		}
	})
	err := f.loop(ctx)
	cancel()
	f.drain()
	return err
}

// drain waits for everything that goes on beside run.
func (f *front) drain() {
	ended := make(chan struct{})
	go func() {
		f.parts.Wait()
		f.notes.wait()
		close(ended)
	}()
	for {
		select {
		case <-f.results: // dropped: the tray is closing
		case <-ended:
			return
		}
	}
}

// follow keeps the newest of what the agent says in snapshots.
func (f *front) follow(ctx context.Context) {
	for s, err := range f.Agent.Follow(ctx) {
		select {
		case <-f.snapshots: // not taken yet, and out of date now
		default:
		}
		f.snapshots <- update{s, err}
	}
}

func (f *front) loop(ctx context.Context) error {
	minute := time.NewTimer(untilMinute(time.Now()))
	defer minute.Stop()
	again := faceAgain
	face := time.NewTimer(again[0])
	defer face.Stop()
	for {
		var due <-chan time.Time
		if f.due != nil {
			due = f.due.C
		}
		var pressed <-chan press
		if f.known { // a button may have started the tray: what it is about comes with the first answer
			pressed = f.pressed
		}
		var late <-chan time.Time
		if f.startedBy != nil {
			late = f.startedBy.C
		}
		select {
		case <-ctx.Done():
			return nil
		case u := <-f.snapshots:
			f.restless = true
			f.update(ctx, u)
		case a := <-f.menu.clicks:
			if a.Do == doQuit {
				f.Logger.Info("tray quit from its menu")
				return errQuit
			}
			f.start(ctx, a)
		case p := <-pressed:
			f.act(ctx, p)
		case <-f.Show:
			f.showStatus()
		case done := <-f.results:
			done()
			f.draw()
		case <-due:
			f.due = nil
			f.draw()
		case <-late:
			f.startedBy, f.env.Starting = nil, false
			f.tell("The agent has not started", "Its log may say why: choose Logs in the tray's menu.")
			f.draw()
		case <-face.C:
			f.menu.forgetFace()
			f.draw()
			if again = again[1:]; len(again) > 0 {
				face.Reset(again[0])
			}
		case <-minute.C:
			minute.Reset(untilMinute(time.Now()))
			if f.restless { // a changed config is news; without any the tray stays asleep
				f.lookAtSettings()
			}
			if f.known && !f.env.Away {
				f.lookForTSH()
				f.draw()
				f.askAgain(ctx)
			}
			f.rest() // last: drawing touches memory too
		}
	}
}

// rest calls Rest in the minute after something happened.
func (f *front) rest() {
	if f.restless && f.Rest != nil {
		f.restless = false
		f.Rest()
	}
}

// untilMinute is the time to the next change of a clock: times are drawn by
// the minute.
func untilMinute(now time.Time) time.Duration {
	return now.Truncate(time.Minute).Add(time.Minute).Sub(now)
}

// update takes what the agent says.
func (f *front) update(ctx context.Context, u update) {
	first := !f.known
	f.known = true
	if u.err != nil {
		if !f.env.Away || first {
			f.Logger.Info("no agent answers", "err", u.err)
		}
		f.env.Away, f.env.Offers, f.asked = true, Offers{}, ""
		f.snapshot = state.Snapshot{}
		if first {
			f.lookAtSettings()
		}
		f.notes.clearAfter(awayGrace)
		f.draw()
		if first && f.StartAtOnce {
			f.start(ctx, Action{Do: doStartAgent})
		}
		return
	}
	if f.env.Away {
		f.Logger.Info("the agent answers", "version", u.snapshot.Agent.Version, "pid", u.snapshot.Agent.PID)
	}
	if f.startedBy != nil {
		f.startedBy.Stop()
		f.startedBy = nil
	}
	proxies := proxiesOf(f.snapshot)
	f.snapshot = u.snapshot
	if f.env.Away || !slices.Equal(proxies, proxiesOf(f.snapshot)) {
		f.lookAtSettings()
	}
	f.env.Away, f.env.Starting = false, false
	f.countHeld()
	f.lookForTSH()
	f.notes.follow(ctx, u.snapshot.Notices)
	f.askAgain(ctx)
	f.draw()
}

// lookForTSH looks whether there is a tsh as long as none has logged in.
func (f *front) lookForTSH() {
	f.env.NoTSH = !slices.ContainsFunc(f.snapshot.Profiles, loggedIn) && !f.HasTSH()
}

// draw draws now, or when enough time has passed since the last drawing.
func (f *front) draw() {
	if f.due != nil {
		return
	}
	now := time.Now()
	if wait := drawEvery - now.Sub(f.drawn); wait > 0 && !f.drawn.IsZero() {
		f.due = time.NewTimer(wait)
		return
	}
	f.drawn = now
	wall := now.Round(0)
	f.menu.draw(Layout(f.snapshot, f.env, wall), now)
	f.menu.face(moodOf(f.snapshot, f.env, wall), tooltipOf(f.snapshot, f.env, wall))
}
