package tray

import "berth/agent/state"

// Item is a line of the menu. Children make it a submenu; they have none
// themselves, because some panels leave a third level blank.
type Item struct {
	Group    Group // where it stands; children stand under their parent
	Label    string
	Action   Action // what a click does; the zero Action does nothing
	Disabled bool   // shown grey
	Children []Item
}

// Group is a stretch of the menu. Groups follow each other in the order of
// these constants, with lines before GroupNote and GroupFoot.
type Group int

// The groups.
const (
	GroupFirst    Group = iota // the one act that everything else waits for
	GroupNeeds                 // a submenu: all that needs the person
	GroupWindow                // "Open berth" and "Recordings…"
	GroupProfiles              // submenus
	GroupRequests              // submenus
	GroupAsk                   // "Request access…"
	GroupNote                  // why there are no tunnels, and what an upgrade waits for
	GroupTunnels               // submenus
	GroupAdd                   // a submenu
	GroupFoot                  // submenus that are always there
	GroupQuit
	groupEnd
)

// groupShape is how many lines a group has room for, and of which sort: a line
// that once was a submenu stays one.
type groupShape struct {
	slots   int
	submenu bool
	line    bool // a line is drawn before it
}

// The limits of what one menu can show; the rest is in "More…".
const (
	maxNeeds    = 12
	maxNotes    = 3
	maxProfiles = 5
	maxRequests = 8
	maxTunnels  = 12 // more are folded
	maxFolds    = 20
	maxMore     = 25 // under "More…", and in a fold
	maxAdd      = 25
	maxSettings = 12
)

var shapes = [groupEnd]groupShape{
	GroupFirst:    {slots: 1},
	GroupNeeds:    {slots: 1, submenu: true},
	GroupWindow:   {slots: 2},
	GroupProfiles: {slots: maxProfiles + 1, submenu: true},
	GroupRequests: {slots: maxRequests + 1, submenu: true},
	GroupAsk:      {slots: 1},
	GroupNote:     {slots: maxNotes + 1, line: true},
	GroupTunnels:  {slots: maxTunnels + 1 + maxFolds + 1, submenu: true},
	GroupAdd:      {slots: 1, submenu: true},
	GroupFoot:     {slots: 2, submenu: true, line: true},
	GroupQuit:     {slots: 1},
}

// Do names what an Action does.
type Do string

// The actions of the menu.
const (
	doNothing     Do = ""
	doStartAgent  Do = "start_agent"
	doLogin       Do = "login"
	doRenew       Do = "renew"
	doCancelLogin Do = "cancel_login"
	doOpenLogin   Do = "open_login"
	doLoginAt     Do = "login_at" // asks where
	doGetTSH      Do = "get_tsh"
	doSnooze      Do = "snooze"
	doLogout      Do = "logout"
	doCopy        Do = "copy" // Action.Text
	doStart       Do = "start"
	doStop        Do = "stop"
	doRestart     Do = "restart"
	doWhy         Do = "why"
	doPort        Do = "port" // asks for another one
	doRemove      Do = "remove"
	doAdd         Do = "add"
	doApprove     Do = "approve"
	doDeny        Do = "deny"
	doAssume      Do = "assume"  // for Action.Tunnel alone when it is named
	doDrop        Do = "drop"    // for Action.Tunnel alone when it is named
	doRequest     Do = "request" // all about Action.Request
	doAskAccess   Do = "ask_access"
	doListAgain   Do = "list_again"
	doProblem     Do = "problem"     // all about the agent's problem with the code Action.Text, best that of the text Action.Title
	doTell        Do = "tell"        // Action.Title and Action.Text
	doOpenWindow  Do = "open_window" // at the page Action.Text
	doOpenConfig  Do = "open_config"
	doSetting     Do = "setting" // Action.Title is its key, Action.Text the next value of a switch
	doOpenLogs    Do = "open_logs"
	doDoctor      Do = "doctor"
	doOpenReport  Do = "open_report"
	doAbout       Do = "about"
	doDocs        Do = "docs"
	doDiagnostics Do = "diagnostics" // copied
	doQuit        Do = "quit"
)

// ofAgent are the actions about what a snapshot has: nothing, while the agent is away.
var ofAgent = []Do{
	doLogin, doRenew, doCancelLogin, doOpenLogin, doSnooze, doLogout, doStart, doStop, doRestart, doWhy, doPort, doRemove,
	doApprove, doDeny, doAssume, doDrop, doRequest, doAskAccess, doProblem,
}

// Action is what a click on an Item, or on a notification's button, does. It
// names exact things, so that it can be looked at again before it is done.
type Action struct {
	Do       Do
	Proxy    string
	User     string // whose session at Proxy; empty: any
	Tunnel   string
	Request  string
	Cluster  string     // of doAdd
	Kind     state.Kind // of doAdd
	Resource string     // of doAdd
	DBUser   string     // of doAdd; empty: there is no choice, or each client names its own
	Title    string     // of doTell, doProblem and doSetting
	Text     string     // of doCopy, doTell, doProblem, doOpenWindow and doSetting
}
