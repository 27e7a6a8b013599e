package tray

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/testwait"
)

var rewrite = flag.Bool("update", false, "rewrite the golden files")

// noon is when all the menus are drawn.
var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func in(d time.Duration) *time.Time { t := noon.Add(d); return &t }

func TestMain(m *testing.M) {
	time.Local = time.UTC // instants are worded in local time
	if os.Getenv(childVar) != "" {
		os.Exit(runChild())
	}
	testwait.ManyAtOnce()
	testwait.NoLeaks(m)
}

func alice() state.Profile {
	return state.Profile{
		Proxy: "teleport.example.com:443", Cluster: "example.com", User: "alice", Roles: []string{"access", "dba"},
		State: state.ProfileValid, ValidUntil: in(7*time.Hour + 12*time.Minute + 30*time.Second),
	}
}

func tunnel(name string, st state.TunnelState) state.Tunnel {
	return state.Tunnel{
		TunnelSpec: state.TunnelSpec{Name: name, Kind: state.KindDB, Cluster: "example.com", Resource: name + "-db"},
		Profile:    "teleport.example.com:443", Protocol: "postgres", Address: "127.0.0.1:15432", State: st,
	}
}

func kubeTunnel() state.Tunnel {
	t := tunnel("prod-k8s", state.TunnelReady)
	t.Kind, t.Protocol, t.Resource, t.Address = state.KindKube, "", "prod", "127.0.0.1:15500"
	return t
}

func busy() state.Snapshot {
	ready := tunnel("prod_pg", state.TunnelReady)
	ready.Connections = 3
	waiting := tunnel("staging-pg", state.TunnelWaitingForLogin)
	waiting.Waiting, waiting.WaitingClient = 1, "psql (pid 7)"
	waiting.Problem = &state.Problem{Code: state.CodeLoginNeeded, Title: "login needed", Text: "The session ended.", Action: "berth login"}
	broken := tunnel("old", state.TunnelError)
	broken.Problem = &state.Problem{Title: "access denied", Text: "The cluster refused."}
	taken := tunnel("taken", state.TunnelPortInUse)
	taken.Problem = &state.Problem{Title: "port taken", Text: "nc has it."}
	return state.Snapshot{
		Profiles: []state.Profile{alice()},
		Tunnels: []state.Tunnel{
			ready, kubeTunnel(), waiting, tunnel("new", state.TunnelConnecting), broken, taken, tunnel("asleep", state.TunnelStopped),
		},
		Requests: []state.Request{
			{
				ID: "r-1", User: "carol", Roles: []string{"admin"}, Reason: "incident 42", State: state.RequestPending, Reviewable: true,
				CreatedAt: noon.Add(-time.Minute), ExpiresAt: noon.Add(time.Hour), Progress: "0 of 2 approvals",
			},
			{
				ID: "r-2", User: "alice", Profile: "teleport.example.com:443", Roles: []string{"dba"}, State: state.RequestApproved, Mine: true, Assumable: true,
				CreatedAt: noon.Add(-time.Hour), ExpiresAt: noon.Add(time.Hour), AccessUntil: in(6 * time.Hour),
				Reviews: []state.Review{{Author: "bob", State: state.RequestApproved, Reason: "fine"}},
			},
			{
				ID: "r-3", User: "alice", Roles: []string{"search-x"}, Resources: []string{"/example.com/db/orders"},
				State: state.RequestPending, Mine: true, Progress: "1 of 2 approvals, needs security",
			},
			{ID: "r-4", User: "alice", Roles: []string{"audit"}, State: state.RequestApproved, Mine: true, Assumed: true, AccessUntil: in(30 * time.Hour)},
			{ID: "r-5", User: "alice", Roles: []string{"ops"}, State: state.RequestApproved, Mine: true, Tunnels: []string{"prod_pg"}},
			{ID: "r-6", User: "alice", Roles: []string{"later"}, State: state.RequestApproved, Mine: true, AssumeFrom: in(90 * time.Minute)},
			{ID: "r-7", User: "alice", Roles: []string{"never"}, State: state.RequestDenied, Mine: true},
			{ID: "r-8", User: "dave", Roles: []string{"other"}, State: state.RequestPending},
		},
	}
}

func psql(t state.Tunnel) (string, string, bool) {
	return "psql", "psql postgres://" + t.Address, t.Protocol == "postgres"
}

func offers() Offers {
	return Offers{Known: true, List: []Offer{
		{Kind: state.KindDB, Cluster: "example.com", Name: "prod_pg-db", Protocol: "postgres"},
		{Kind: state.KindDB, Cluster: "example.com", Name: "orders", Protocol: "mysql"},
		{Kind: state.KindKube, Cluster: "example.com", Name: "prod"},
		{Kind: state.KindKube, Cluster: "example.com", Name: "lab"},
		{Kind: state.KindDB, Cluster: "leaf", Name: "R&D", Protocol: "postgres"},
	}}
}

func crowd() (state.Snapshot, Env) {
	var s state.Snapshot
	for i := range 7 {
		p := alice()
		p.Proxy = fmt.Sprintf("p%d.example.com:443", i)
		s.Profiles = append(s.Profiles, p)
	}
	for i := range 200 {
		s.Tunnels = append(s.Tunnels, tunnel(fmt.Sprintf("t%03d", i), state.TunnelReady))
	}
	for i := range 500 {
		s.Requests = append(s.Requests, state.Request{
			ID: fmt.Sprintf("r-%03d", i), User: "carol", Roles: []string{"admin"}, State: state.RequestPending, Reviewable: true,
		})
	}
	o := Offers{Known: true}
	for i := range 60 {
		o.List = append(o.List, Offer{Kind: state.KindDB, Cluster: "example.com", Name: fmt.Sprintf("d%02d", i), Protocol: "mysql"})
	}
	return s, Env{GOOS: "linux", Offers: o}
}

// hostile is text as its author would like it to be shown.
var hostile = "<b>x</b>\x1b[31m\u202egnp.exe\u2066\u200b\r\n\tline & _two_ \U000e0041" + strings.Repeat("é́", 50) + strings.Repeat("A", 10_000)

func nasty() state.Snapshot {
	p := alice()
	p.User, p.Cluster, p.Roles = hostile, hostile, []string{hostile}
	t := tunnel(hostile, state.TunnelError)
	t.Problem = &state.Problem{Title: hostile, Text: hostile}
	t.Resource, t.Cluster, t.Protocol = hostile, hostile, hostile
	r := state.Request{ID: hostile, User: hostile, Roles: []string{hostile}, Reason: hostile, State: state.RequestPending, Reviewable: true}
	return state.Snapshot{Profiles: []state.Profile{p}, Tunnels: []state.Tunnel{t}, Requests: []state.Request{r}}
}

// settings are those of a new user with one profile.
func settings() []Setting {
	return []Setting{
		{Key: "notifications.enabled", Title: "Notifications", Kind: SettingSwitch, Value: "true"},
		{Key: "notifications.quiet_hours", Title: "Quiet hours", Kind: SettingText},
		{Key: "browser", Title: "Browser for login pages", Kind: SettingText, Value: "firefox -P work %s"},
		{
			Key: "renew.mode@teleport.example.com:443", Title: "Session at teleport.example.com:443", Kind: SettingChoice, Value: "ask",
			Choices: []WordsOf{{"ask", "Ask before it expires"}, {"auto", "Renew it before it expires"}, {"off", "Let it expire"}},
		},
		{Key: SettingStart, Title: "Start at login", Kind: SettingSwitch, Value: "false"},
	}
}

func TestLayout(t *testing.T) {
	manyState, manyEnv := crowd()
	ending := alice()
	ending.ValidUntil, ending.State, ending.Renewal.Warning = in(14*time.Minute), state.ProfileExpiring, state.WarnSoon
	over := alice()
	over.ValidUntil, over.State = in(-time.Minute), state.ProfileExpired
	out := alice()
	out.ValidUntil, out.State, out.User = nil, state.ProfileLoggedOut, ""
	busyLogin := alice()
	busyLogin.State, busyLogin.Login = state.ProfileExpired, state.Login{InProgress: true, URL: "http://127.0.0.1:1/x"}
	typed := busyLogin
	typed.Login.URL = ""
	cases := map[string]struct {
		s   state.Snapshot
		env Env
	}{
		"busy":          {busy(), Env{GOOS: "linux", Client: psql, Offers: offers()}},
		"busy_windows":  {busy(), Env{GOOS: "windows", Client: psql, Offers: offers()}},
		"busy_darwin":   {busy(), Env{GOOS: "darwin", Client: psql, Offers: offers()}},
		"window":        {busy(), Env{GOOS: "linux", Client: psql, Offers: offers(), Window: true, Settings: settings()}},
		"first_run":     {state.Snapshot{}, Env{GOOS: "linux", NoTSH: true, Window: true}},
		"away":          {state.Snapshot{}, Env{GOOS: "linux", Away: true, Settings: settings()}},
		"starting":      {state.Snapshot{}, Env{GOOS: "linux", Away: true, Starting: true}},
		"empty":         {state.Snapshot{}, Env{GOOS: "linux"}},
		"crowd":         {manyState, manyEnv},
		"hostile":       {nasty(), Env{GOOS: "linux", Offers: Offers{Failed: hostile}}},
		"sessions":      {state.Snapshot{Profiles: []state.Profile{ending, over, out, busyLogin, typed}}, Env{GOOS: "linux"}},
		"asking":        {state.Snapshot{Profiles: []state.Profile{alice()}}, Env{GOOS: "linux", Offers: Offers{Waiting: true}}},
		"nothing_left":  {state.Snapshot{Profiles: []state.Profile{alice()}}, Env{GOOS: "linux", Offers: Offers{Known: true}}},
		"agent_forgets": {state.Snapshot{Profiles: []state.Profile{alice()}}, Env{GOOS: "linux", Offers: Offers{Failed: "no answer"}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			items := Layout(c.s, c.env, noon)
			checkShape(t, items)
			golden(t, filepath.Join("testdata", name+".txt"), drawing(items, c, noon))
		})
	}
}

// drawing is a menu as text, with what each line does.
func drawing(items []Item, c struct {
	s   state.Snapshot
	env Env
}, now time.Time,
) string {
	var b strings.Builder
	fmt.Fprintf(&b, "icon: %s\ntooltip: %s\n\n", moodOf(c.s, c.env, now), tooltipOf(c.s, c.env, now))
	line := func(indent string, it Item) {
		fmt.Fprintf(&b, "%s%s", indent, it.Label)
		if it.Disabled {
			b.WriteString("  (grey)")
		}
		if a := it.Action; a.Do != doNothing {
			fmt.Fprintf(&b, "  -> %s", a.Do)
			for _, word := range []string{a.Proxy, a.Request, a.Tunnel, string(a.Kind), a.Cluster, a.Resource, a.Title, a.Text} {
				if word != "" {
					fmt.Fprintf(&b, " %q", word)
				}
			}
		}
		b.WriteByte('\n')
	}
	last := GroupFirst
	for _, it := range items {
		for g := last + 1; g <= it.Group; g++ {
			if shapes[g].line {
				b.WriteString("──\n")
			}
		}
		last = it.Group
		line("", it)
		for _, child := range it.Children {
			line("    ", child)
		}
	}
	return b.String()
}

// checkShape checks what the renderer relies on.
func checkShape(t *testing.T, items []Item) {
	t.Helper()
	used := make(map[Group]int)
	last := GroupFirst
	for _, it := range items {
		if it.Group < last {
			t.Errorf("%q stands before its group", it.Label)
		}
		last = it.Group
		used[it.Group]++
		if shapes[it.Group].submenu != (len(it.Children) > 0) {
			t.Errorf("%q has %d children in group %d", it.Label, len(it.Children), it.Group)
		}
		for _, line := range append([]Item{it}, it.Children...) {
			if plain.Line(line.Label) != line.Label {
				t.Errorf("label %q is not clean", line.Label)
			}
			if n := plain.Width(line.Label); n > 2*maxLabel || n == 0 {
				t.Errorf("label %q has %d columns", line.Label, n)
			}
			if line.Children != nil && line.Action != (Action{}) {
				t.Errorf("submenu %q has an action", line.Label)
			}
		}
		for _, child := range it.Children {
			if len(child.Children) > 0 {
				t.Errorf("%q is a third level", child.Children[0].Label)
			}
		}
	}
	for g, n := range used {
		if n > shapes[g].slots {
			t.Errorf("group %d has %d lines and room for %d", g, n, shapes[g].slots)
		}
	}
	for g := range groupEnd {
		if shapes[g].line && used[g] == 0 && (g+1 >= groupEnd || shapes[g+1].line || used[g+1] == 0) {
			t.Errorf("the line before group %d has nothing below", g)
		}
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *rewrite {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update rewrites):\n%s", path, diff)
	}
}

// FuzzLabel: whatever names things have, a label stays one short line.
func FuzzLabel(f *testing.F) {
	f.Add(hostile)
	f.Add("a\xff_b&c")
	f.Fuzz(func(t *testing.T, s string) {
		for _, goos := range []string{"linux", "windows", "darwin"} {
			got := finish(goos, s)
			if plain.Line(got) != got {
				t.Errorf("finish(%q) = %q", s, got)
			}
			if n := plain.Width(got); n > 2*maxLabel {
				t.Errorf("finish made %d columns", n)
			}
			if goos == "linux" && strings.Count(got, "_")%2 != 0 {
				t.Errorf("finish(%q) = %q: an underscore is single", s, got)
			}
		}
	})
}

// TestOffersNameTheirUser: where one may be one of several database users, each
// has a line.
func TestOffersNameTheirUser(t *testing.T) {
	offer := func(name string, users ...string) Offer {
		return Offer{Kind: state.KindDB, Cluster: "example.com", Name: name, Protocol: "mongodb", Users: users}
	}
	env := Env{Offers: Offers{Known: true, List: []Offer{offer("any", "*"), offer("many", "app", "reader"), offer("one", "app"), offer("none")}}}
	s := state.Snapshot{Profiles: []state.Profile{{State: state.ProfileValid}}}
	var got []string
	for _, child := range addItem(s, env)[0].Children {
		if child.Action.Do == doAdd {
			got = append(got, child.Label+" → "+child.Action.DBUser)
		}
	}
	want := []string{
		"any (mongodb) → ", "many (mongodb) as app → app", "many (mongodb) as reader → reader", "none (mongodb) → ",
		"one (mongodb) as app → app",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestMoods: good news, a question and a failure look different, and so does
// what is out of the ordinary.
func TestMoods(t *testing.T) {
	well := state.Snapshot{Profiles: []state.Profile{alice()}, Tunnels: []state.Tunnel{tunnel("a", state.TunnelReady)}}
	with := func(change func(*state.Snapshot)) state.Snapshot {
		s := well
		s.Profiles = []state.Profile{alice()}
		change(&s)
		return s
	}
	request := func(r state.Request) state.Snapshot {
		return with(func(s *state.Snapshot) { s.Requests = []state.Request{r} })
	}
	cases := map[string]struct {
		s    state.Snapshot
		env  Env
		want mood
		says string // in the menu
	}{
		"well":      {well, Env{}, moodFine, "a · 127.0.0.1:15432 · ready"},
		"away":      {well, Env{Away: true}, moodOff, "Start agent"},
		"first_run": {state.Snapshot{}, Env{}, moodAction, "Log in…"},
		"no_tsh":    {state.Snapshot{}, Env{NoTSH: true}, moodAction, "Get tsh, which logs you in"},
		"logged_out": {with(func(s *state.Snapshot) {
			s.Profiles[0].State, s.Profiles[0].ValidUntil = state.ProfileLoggedOut, nil
		}), Env{}, moodAction, "Log in to example.com"},
		"question": {request(state.Request{ID: "r", User: "carol", Roles: []string{"x"}, State: state.RequestPending, Reviewable: true}), Env{}, moodAsk, "1 needs you"},
		"news":     {request(state.Request{ID: "r", Roles: []string{"x"}, State: state.RequestApproved, Assumable: true}), Env{}, moodNews, "1 needs you"},
		"assumed":  {request(state.Request{ID: "r", Roles: []string{"x"}, State: state.RequestApproved, Assumed: true}), Env{}, moodMarked, "x assumed"},
		"insecure": {with(func(s *state.Snapshot) {
			s.Problems = []state.Problem{{Code: state.CodeInsecureProxy, Title: "INSECURE proxy", Text: "Not verified."}}
		}), Env{}, moodMarked, "INSECURE proxy: Not verified."},
		"snoozed": {with(func(s *state.Snapshot) {
			s.Profiles[0].ValidUntil, s.Profiles[0].Renewal = in(10*time.Minute), state.Renewal{Mode: state.RenewAsk, At: in(5 * time.Minute)}
		}), Env{}, moodSoon, "alice @ example.com · ends in 10 min · next reminder at 12:05"},
		"second_snoozed": {with(func(s *state.Snapshot) {
			ending := alice()
			ending.Cluster, ending.ValidUntil = "other.test", in(10*time.Minute)
			s.Profiles = append(s.Profiles, ending)
		}), Env{}, moodSoon, "alice @ other.test · ends in 10 min"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := moodOf(c.s, c.env, noon); got != c.want {
				t.Errorf("the icon is %s, want %s", got, c.want)
			}
			// Whoever cannot see the icon hears what it is for.
			if heard, _, _ := strings.Cut(c.says, ":"); (c.want == moodMarked || c.want == moodSoon) && !strings.Contains(tooltipOf(c.s, c.env, noon), heard) {
				t.Errorf("the icon's words are %q, without %q", tooltipOf(c.s, c.env, noon), heard)
			}
			items := Layout(c.s, c.env, noon)
			checkShape(t, items)
			if !slices.ContainsFunc(items, func(it Item) bool { return it.Label == c.says }) {
				t.Errorf("the menu does not say %q: %+v", c.says, items)
			}
		})
	}
}

// TestOneCauseIsOneLine: what one act mends is mentioned once, with the count,
// and past what fits the healthy tunnels are folded.
func TestOneCauseIsOneLine(t *testing.T) {
	s := state.Snapshot{Profiles: []state.Profile{alice()}}
	for i := range 30 {
		s.Tunnels = append(s.Tunnels, tunnel(fmt.Sprintf("t%02d", i), state.TunnelReady))
	}
	for _, i := range []int{7, 20, 29} {
		s.Tunnels[i].State = state.TunnelError
		s.Tunnels[i].Problem = &state.Problem{Code: state.CodeProxyUnreachable, Title: "proxy unreachable"}
	}
	var lines []string
	for _, it := range Layout(s, Env{}, noon) {
		if it.Group == GroupNeeds || it.Group == GroupTunnels {
			lines = append(lines, fmt.Sprintf("%s (%d)", it.Label, len(it.Children)))
		}
	}
	want := []string{
		"1 needs you (1)", "t07 · 127.0.0.1:15432 · proxy unreachable (7)", "t20 · 127.0.0.1:15432 · proxy unreachable (7)",
		"t29 · 127.0.0.1:15432 · proxy unreachable (7)", "example.com · t00 to t26 (25)", "example.com · t27 to t28 (2)",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPINIsTypedFromTheMenu: for whoever has missed the notification.
func TestPINIsTypedFromTheMenu(t *testing.T) {
	s := state.Snapshot{Profiles: []state.Profile{alice()}, Tunnels: []state.Tunnel{tunnel("pg", state.TunnelWaitingForLogin)}}
	s.Tunnels[0].Problem = &state.Problem{Code: state.CodePINNeeded, Title: "PIN needed"}
	asks := Action{Do: doLogin, Proxy: s.Tunnels[0].Profile}
	var lines []string
	for _, it := range Layout(s, Env{}, noon) {
		for _, child := range it.Children {
			if child.Action == asks {
				lines = append(lines, it.Label+" → "+child.Label)
			}
		}
	}
	want := []string{
		"1 needs you → pg: waiting for your security key's PIN",
		"pg · 127.0.0.1:15432 · waiting for your security key's PIN → Enter the PIN",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// An upgrade that waits for a restart is a line of the menu, with the command.
func TestProgramReplaced(t *testing.T) {
	s := busy()
	s.Problems = []state.Problem{{Code: state.CodeProgramReplaced, Title: "Program replaced", Action: "berth agent restart"}}
	for _, item := range Layout(s, Env{GOOS: "linux"}, noon) {
		if strings.Contains(item.Label, "Program replaced: berth agent restart") {
			return
		}
	}
	t.Error("the menu does not say it")
}
