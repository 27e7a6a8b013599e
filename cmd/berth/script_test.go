package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"berth/agent/config"
	"berth/agent/secrets"
	"berth/internal/doctor"
	"berth/internal/simcluster/faketsh"
	"berth/internal/simcluster/kubectltest"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// TestMain lets the test binary pass for berth: the scripts run it under that
// name.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"berth": berthOfScript, "tsh": fakeTSH, "person": person})
}

// berthOfScript is berth with a policy that the script wrote, if it wrote one, and
// with patience.
func berthOfScript() {
	machinePolicy = func() config.PolicyFile {
		return config.PolicyFile{Path: os.Getenv("SCRIPT_POLICY"), Trusted: notForAll}
	}
	bePatient()
	main()
}

// bePatient has berth wait for answers that it would rather do without than keep a
// person waiting. The scripts check these answers, and a busy machine brings them late.
func bePatient() {
	for _, limit := range []*time.Duration{
		&agentWait, &answerWait, &completeWait, &credentialWait, &settleWait, &checkupTime, &secrets.Limit,
		&doctor.Limits.Check, &doctor.Limits.Run, &doctor.Limits.Agent, &doctor.Limits.Step,
	} {
		*limit = testwait.Patience
	}
}

// notForAll trusts whatever is not for everyone to write, whoever owns it.
func notForAll(f *os.File) error {
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o002 != 0 {
		err = errors.New("everyone can write it")
	}
	return err
}

// fakeTSH lets the test binary pass for tsh as well.
func fakeTSH() { os.Exit(faketsh.Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)) }

// The scripts know these commands beside testscript's own, which are described
// in its documentation:
//
//	sim [CONNECTOR] [db-users=A,B] [kube-port]
//	                         start a simulated cluster, and write a config that trusts it; users log in by the connector,
//	                         and may be these database users, or any; the shared port of Kubernetes is a free one
//	person URL               a browser with alice at it: log in at the page (a program)
//	approve-all              approve the access requests that are pending, once there is one
//	record NAME [LIVE]       have the cluster hold a recording made on a real one: ssh, kube, command or hostile
//	played ID [FLAG...] -- STEP...
//	                         play a recording on a terminal; a step is a text to wait for, key:KEYS or TERM
//	hostile                  the same, with names that attack the terminal
//	login [TTL]              leave in the Teleport home what "tsh login" leaves there
//	logout                   empty the Teleport home
//	tunnel NAME RESOURCE     add a tunnel to the config file; $NAME_port is its port
//	port NAME                set $NAME to a free port
//	occupy PORT              listen on a port until the script ends
//	agent [ARG...]           run "berth agent run ARG..." until the script ends or stop
//	stop-agent [SIGNAL]      signal the agent; it must end with 0
//	kill-agent               kill the agent
//	code N COMMAND [ARG...]  run a command that must end with exit code N
//	shape FILE WANT          compare the keys and types of a JSON file with a list,
//	                         in which "tunnel" stands for the keys of a tunnel
//	wait-for FILE PATTERN    wait until a file has a line that matches
//	mode FILE MODE           check a file's permissions
//	escapes                  fail if stdout or stderr has invisible characters
//	type FILE COMMAND [ARG...]  run a command at a terminal; each line of the file is a prompt, " => " and what is typed
//	term COMMAND [ARG...]    run a command whose output is a terminal, of $SIZE columns x rows if that is set
//	refusals FILE            run the lines of a file; each must fail, and none with itself as the next step
//	each-command FILE FOLDER  run the lines of a file, all commands among them; the folder must stay as it is, or not with !
func scriptCommands(t *testing.T) map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"sim": cmdSim, "login": cmdLogin, "logout": cmdLogout, "fault": cmdFault, "tunnel": cmdTunnel, "port": cmdPort, "occupy": cmdOccupy,
		"agent": cmdAgent, "stop-agent": cmdStopAgent, "kill-agent": cmdKillAgent, "code": cmdCode, "shape": cmdShape, "wait-for": cmdWaitFor,
		"mode": cmdMode, "type": cmdType, "escapes": cmdEscapes, "term": cmdTerm, "hostile": cmdHostile, "password": cmdPassword,
		"each-command": cmdEachCommand, "refusals": cmdRefusals,
		"requests": cmdRequests, "request": cmdRequest, "approve-all": cmdApproveAll,
		"record": cmdRecord, "played": cmdPlayed,
		"keyring": func(ts *testscript.TestScript, _ bool, args []string) { cmdKeyring(t, ts, args) },
	}
}

func TestScripts(t *testing.T) {
	testneeds.Unix(t, "the scripts stop their agents with SIGTERM, which Windows does not have")
	testneeds.Time(t, "every script runs an agent")
	first := quickPrograms(t)
	kubectl, noKubectl := kubectltest.Path()
	if noKubectl == nil {
		dir := t.TempDir() // that of PATH may be too old
		if err := os.Symlink(kubectl, filepath.Join(dir, "kubectl")); err != nil {
			t.Fatal(err)
		}
		first += dir + string(filepath.ListSeparator)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		Cmds:                scriptCommands(t),
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			w := &world{dir: env.WorkDir, tshHome: filepath.Join(env.WorkDir, "tsh")}
			env.Values[worldKey{}] = w
			env.Defer(w.close)
			// A path of its own for each: the socket's must stay short.
			home, err := shortTempDir()
			if err != nil {
				return err
			}
			w.berthHome = home
			for _, kv := range [][2]string{
				{"BERTH_HOME", home}, {"TELEPORT_HOME", w.tshHome}, {"HOME", env.WorkDir}, {"TMPDIR", filepath.Join(env.WorkDir, "tmp")},
				{"NO_COLOR", ""}, {"TERM", "xterm"}, {"VISUAL", ""}, {"EDITOR", ""}, {"PGPASSFILE", "/dev/null"}, {"LC_ALL", "C.UTF-8"},
				{"XDG_CONFIG_DIRS", "/none"}, {"XDG_DATA_DIRS", "/none"}, // a berth that is installed here is none of the scripts'
				{"GORACE", testneeds.RaceOptions},
			} {
				env.Setenv(kv[0], kv[1])
			}
			env.Setenv("ONE_PROGRAM", env.Getenv("PATH")) // berth at a terminal is then the same program as any other
			env.Setenv("PATH", first+env.Getenv("PATH"))
			return w.makeTmp()
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Getuid() == 0, nil
			case "kubectl":
				return noKubectl == nil, nil
			case "python-kubernetes": // of the system's own python3, where Debian's package is
				return exec.Command("/usr/bin/python3", "-c", "import kubernetes.stream").Run() == nil, nil
			case "systemd":
				_, err := os.Stat("/run/systemd/system")
				return err == nil, nil
			}
			return false, errors.New("no such condition: " + cond)
		},
	})
}

// quickPrograms is the first part of a script's PATH. Under the race detector a
// program takes 70 ms of processor time to start instead of 20, and the scripts start
// more than a thousand. Those that do one thing after the other are therefore of the
// same test program without it. Agents, and whatever runs at a terminal, keep it.
func quickPrograms(t *testing.T) string {
	t.Helper()
	if !testneeds.Race {
		return ""
	}
	dir := t.TempDir()
	berth := filepath.Join(dir, "berth")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-ldflags=-w", "-o", berth, "berth/cmd/berth")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the scripts' programs: %v\n%s", err, out)
	}
	for _, name := range []string{"tsh", "person"} {
		if err := os.Link(berth, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir + string(filepath.ListSeparator)
}

// cmdCode checks a command's exit code.
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
