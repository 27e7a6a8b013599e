package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"berth/agent/config"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/paths"
	"berth/internal/plain"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testwait"
)

// world is what a script's commands share: a cluster, a home, an agent.
type world struct {
	dir, tshHome, berthHome string

	*simworld.World // nil without a cluster

	agent *exec.Cmd
	log   *simworld.Log // the agent's terminal
	taken []net.Listener
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world {
	w, ok := ts.Value(worldKey{}).(*world)
	if !ok {
		ts.Fatalf("the script has no world")
	}
	return w
}

func shortTempDir() (string, error) { return os.MkdirTemp("", "berth-script-") }

func (w *world) makeTmp() error { return os.MkdirAll(filepath.Join(w.dir, "tmp"), 0o700) }

// close ends whatever the script left running.
func (w *world) close() {
	if w.agent != nil {
		_ = w.agent.Process.Kill()
		_ = w.agent.Wait()
	}
	w.killService()
	for _, l := range w.taken {
		_ = l.Close()
	}
	_ = os.RemoveAll(w.berthHome)
}

// killService ends an agent that a failed script left behind as a service.
func (w *world) killService() {
	raw, err := os.ReadFile(filepath.Join(w.berthHome, "state", "agent.lock.pid"))
	if err != nil {
		return
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(raw))); err == nil && pid > 1 {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
		}
	}
}

func (w *world) paths(ts *testscript.TestScript) paths.Paths {
	p, err := paths.Resolve(ts.Getenv)
	ts.Check(err)
	return p
}

// cmdSim starts a cluster with a database of each kind that has a simulated
// server, and one that speaks something berth knows no client for.
func cmdSim(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	labels := map[string]string{"env": "test", "tier": "1"}
	var connectors []simcluster.Connector
	var roles []simcluster.Role
	var lines []string
	for _, arg := range args {
		// All agents derive the same one, and scripts run beside each other.
		if arg == "kube-port" {
			lines = append(lines, fmt.Sprintf("kube: {port: %d}", simworld.FreePort(scriptT{ts: ts})))
			continue
		}
		if users, ok := strings.CutPrefix(arg, "db-users="); ok {
			roles = []simcluster.Role{{Name: "access", DBUsers: strings.Split(users, ",")}}
			continue
		}
		connectors = append(connectors, simcluster.Connector{Name: arg, Type: simcluster.OIDC})
	}
	w.start(ts, simcluster.Config{
		Name:       clusterOf(ts),
		Connectors: connectors,
		Roles:      roles,
		Databases: []simcluster.Database{
			{Name: "orders", Protocol: "postgres", Description: "the orders", Labels: labels},
			{Name: "shop", Protocol: "mysql"},
			{Name: "cache", Protocol: "redis"},
			{Name: "search", Protocol: "elasticsearch"},
		},
		Kubes: []simcluster.Kube{{Name: "prod", Labels: map[string]string{"env": "prod"}}, {Name: "dev"}},
	}, lines...)
}

// cmdFault has the proxy misbehave, or no longer.
func cmdFault(ts *testscript.TestScript, neg bool, args []string) {
	modes := map[string]simcluster.Mode{"stalled": simcluster.Stalled, "healthy": simcluster.Healthy}
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fault stalled|healthy")
	}
	ts.Check(worldOf(ts).Sim.Faults().Proxy(modes[args[0]]))
}

// cmdHostile starts a cluster whose names and texts attack the terminal.
func cmdHostile(ts *testscript.TestScript, _ bool, _ []string) {
	w := worldOf(ts)
	evil := "\x1b]0;owned\a\x1b[2J\u202egnp.exe\u2066\u200b\n! fake: line\r\u009b31m\U000e0041"
	w.start(ts, simcluster.Config{
		Name: clusterOf(ts),
		Databases: []simcluster.Database{
			{Name: "orders", Protocol: "postgres", Description: evil, Labels: map[string]string{"team": evil}},
		},
	})
}

// clusterOf names a script's cluster after the script: the ports that berth derives
// follow from the name, and scripts that run beside each other would want the same.
func clusterOf(ts *testscript.TestScript) string {
	return strings.ReplaceAll(ts.Name(), "_", "-") + ".test"
}

// start starts a cluster and writes a config that trusts it, with further lines.
func (w *world) start(ts *testscript.TestScript, cfg simcluster.Config, lines ...string) {
	w.World = simworld.In(scriptT{ts: ts}, cfg, w.tshHome, w.berthHome)
	w.Configure(w.Trust(), lines...)
	for name, value := range map[string]string{
		"PROXY": w.Sim.ProxyAddr(), "CONFIG": w.Paths.Config, "LOG": w.Paths.LogFile, "STATE": w.Paths.StateFile, "WEB_CA": w.CAFile(),
	} {
		ts.Setenv(name, value)
	}
}

// scriptT lets a script pass for a test, for simworld.
type scriptT struct {
	testing.TB
	ts *testscript.TestScript
}

// What simworld reports at the end of a script comes too late to fail it.
func (t scriptT) Helper()                           {}
func (t scriptT) Context() context.Context          { return context.Background() }
func (t scriptT) Cleanup(f func())                  { t.ts.Defer(f) }
func (t scriptT) Fatal(args ...any)                 { t.ts.Fatalf("%s", fmt.Sprint(args...)) }
func (t scriptT) Errorf(format string, args ...any) { t.ts.Logf(format, args...) }

func cmdLogin(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	var opts []simcluster.LoginOption
	if len(args) > 0 {
		ttl, err := time.ParseDuration(args[0])
		ts.Check(err)
		opts = append(opts, simcluster.WithTTL(ttl))
	}
	w.Login(opts...)
}

func cmdLogout(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(os.RemoveAll(worldOf(ts).tshHome))
}

func cmdTunnel(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: tunnel NAME RESOURCE")
	}
	spec := state.TunnelSpec{
		Name: args[0], Kind: state.KindDB, Cluster: clusterOf(ts), Resource: args[1], DBUser: "alice", DBName: "app",
		Port: simworld.FreePort(scriptT{ts: ts}),
	}
	if args[1] == "cache" {
		spec.DBName = "0"
	}
	ts.Check(config.AddTunnel(worldOf(ts).paths(ts).Config, spec))
	ts.Setenv(args[0]+"_port", strconv.Itoa(spec.Port))
}

func cmdPort(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: port NAME")
	}
	ts.Setenv(args[0], strconv.Itoa(simworld.FreePort(scriptT{ts: ts})))
}

func cmdOccupy(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: occupy PORT")
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+args[0])
	ts.Check(err)
	w := worldOf(ts)
	w.taken = append(w.taken, l)
}

// cmdAgent starts an agent and waits until it answers.
func cmdAgent(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	path, err := exec.LookPath("berth") // the test's own PATH begins with the stand-in
	ts.Check(err)
	w.log = &simworld.Log{}
	w.agent = exec.CommandContext(context.Background(), path, append([]string{"agent", "run"}, args...)...)
	w.agent.Dir = w.dir
	for _, name := range []string{"BERTH_HOME", "TELEPORT_HOME", "HOME", "TMPDIR", "PATH", "NOTIFY_SOCKET", "GORACE", "GOCOVERDIR", "DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS", "SCRIPT_POLICY"} {
		if value := ts.Getenv(name); value != "" {
			w.agent.Env = append(w.agent.Env, name+"="+value)
		}
	}
	w.agent.Stderr, w.agent.Stdout = w.log, w.log
	ts.Check(w.agent.Start())
	ts.Setenv("AGENT_PID", strconv.Itoa(w.agent.Process.Pid))
	c := client.Dial(w.paths(ts).Socket)
	defer func() { ts.Check(c.Close()) }()
	if !testwait.Until(func() bool { _, err = c.Info(context.Background()); return err == nil }) {
		ts.Fatalf("the agent does not answer: %v\n%s", err, w.log)
	}
}

// cmdStopAgent checks that the agent ends with 0; its terminal becomes the
// file agent.out.
func cmdStopAgent(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	if w.agent == nil {
		ts.Fatalf("no agent runs")
	}
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP}
	name := strings.Join(append(args, "TERM")[:1], "")
	sig, ok := signals[name]
	if !ok {
		ts.Fatalf("unknown signal %s", name)
	}
	ts.Check(w.agent.Process.Signal(sig))
	ended := make(chan error, 1)
	go func() { ended <- w.agent.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-time.After(testwait.Patience):
		_ = w.agent.Process.Kill()
		<-ended // or the end of the script would wait for it at the same time
		w.agent = nil
		ts.Fatalf("the agent does not stop:\n%s", w.log)
	}
	w.agent = nil
	ts.Check(os.WriteFile(ts.MkAbs("agent.out"), []byte(w.log.String()), 0o600))
	if err != nil {
		ts.Fatalf("the agent ended with %v:\n%s", err, w.log)
	}
}

// cmdKillAgent kills the agent, as a power cut would.
func cmdKillAgent(ts *testscript.TestScript, _ bool, _ []string) {
	w := worldOf(ts)
	ts.Check(w.agent.Process.Kill())
	_ = w.agent.Wait() // it says that it was killed
	w.agent = nil
}

// cmdShape compares what a JSON text is made of, not its values. Several texts
// in a row, as of --watch, are one.
func cmdShape(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: shape FILE WANT")
	}
	lines := make(map[string]bool)
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	for dec.More() {
		var v any
		if err := dec.Decode(&v); err != nil {
			ts.Fatalf("%s is no JSON: %v", args[0], err)
		}
		shape(lines, "", v)
	}
	got := slices.Sorted(maps.Keys(lines))
	wanted := make(map[string]bool)
	for line := range strings.Lines(strings.Trim(ts.ReadFile(args[1]), "\n")) {
		line = strings.TrimSuffix(line, "\n")
		if at, ok := strings.CutSuffix(line, " tunnel"); ok {
			shapeOfSpec(ts, wanted, at)
		} else {
			wanted[line] = true
		}
	}
	want := slices.Sorted(maps.Keys(wanted))
	if diff := cmp.Diff(want, got); diff != "" {
		ts.Fatalf("%s differs from %s (-want +got):\n%s", args[0], args[1], diff)
	}
}

// shapeOfSpec notes the keys that a tunnel has in the config.
func shapeOfSpec(ts *testscript.TestScript, lines map[string]bool, path string) {
	raw, err := json.Marshal(state.TunnelSpec{AsGroups: []string{}})
	ts.Check(err)
	var v any
	ts.Check(json.Unmarshal(raw, &v))
	shape(lines, path, v)
}

// shape notes a line for each place in a JSON value: its path and its type.
func shape(lines map[string]bool, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		lines[path+" object"] = true
		for key, item := range v {
			shape(lines, path+"."+key, item)
		}
	case []any:
		lines[path+" array"] = true
		for _, item := range v {
			shape(lines, path+"[]", item)
		}
	case string:
		lines[path+" string"] = true
	case bool:
		lines[path+" bool"] = true
	case nil:
		lines[path+" null"] = true
	default:
		lines[path+" number"] = true
	}
}

func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: wait-for FILE PATTERN")
	}
	re := regexp.MustCompile("(?m)" + args[1])
	var raw []byte
	if !testwait.Until(func() bool {
		var err error
		raw, err = os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && re.Match(raw)
	}) {
		ts.Fatalf("%s has no line that matches %s:\n%s", args[0], args[1], raw)
	}
}

func cmdMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode FILE MODE")
	}
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
}

func cmdEscapes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: escapes")
	}
	for _, name := range []string{"stdout", "stderr"} {
		text := ts.ReadFile(name)
		if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && plain.Invisible(r) }); i >= 0 {
			ts.Fatalf("%s has an invisible character: %q", name, text[max(0, i-20):min(len(text), i+20)])
		}
	}
}

// cmdTerm runs a command whose output goes to a terminal, and keeps what the
// terminal got as stdout.
