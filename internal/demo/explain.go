package demo

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"berth/agent/state"
	"berth/internal/shell"
)

// explain tells a person what there is and what to paste.
func (d *demo) explain(tunnels []state.Tunnel) error {
	clients, err := d.clientLines(tunnels)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(d.Out, `
A simulated Teleport cluster runs on this machine, %[1]s is logged in to it, and
an agent keeps %[2]d tunnels to its databases and its Kubernetes cluster. Your own
logins, config, tunnels and kubeconfig are not touched.
%[7]s
Open another terminal and paste these lines there:

%[3]s
Then connect, or use your own tools at the same addresses:

%[4]s
What to look at:

  berth status
  berth exec demo-pg -- psql -c 'select * from orders'
  berth exec demo-pg -- psql -c 'select * from session_identity'
  berth tunnel url demo-pg --as jdbc
  berth request create --role dba --reason trying --wait
  berth request assume ID --tunnel demo-pg
  berth recording ls
  berth logout
  berth login
  berth doctor

The password is %[6]s. Log out and connect: the client waits until you log in.
A session lasts %[5]s and is renewed before that. Keep a client open: it goes on,
while new connections get a new cert (the "serial" of session_identity).
Requests are approved after three seconds.

Ctrl-C ends the demo and removes everything. What happens from now on:

`, user, len(tunnels), d.environment(), clients, state.Duration(d.SessionTTL), password, d.advice())
	return err
}

// environment returns the lines that make berth in another terminal use the
// demo's agent.
func (d *demo) environment() string {
	lines := setVar("BERTH_HOME", d.berthHome())
	berth, err := d.findBerth()
	switch {
	case err != nil:
		lines += "  (there is no berth program: build it with \"make build\")\n"
	case !onPath(berth):
		lines += prependPath(filepath.Dir(berth))
	}
	return lines
}

func setVar(name, value string) string {
	if runtime.GOOS == "windows" {
		return fmt.Sprintf("  $env:%s = %s\n", name, powerShellQuote(value))
	}
	return fmt.Sprintf("  export %s=%s\n", name, shell.Quote(value))
}

func prependPath(dir string) string {
	if runtime.GOOS == "windows" {
		return fmt.Sprintf("  $env:PATH = %s + $env:PATH\n", powerShellQuote(dir+";"))
	}
	return fmt.Sprintf("  export PATH=%s:\"$PATH\"\n", shell.Quote(dir))
}

func powerShellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// findBerth returns the path of the berth program: a build puts it beside this
// one.
func (d *demo) findBerth() (string, error) {
	if d.Berth != "" {
		return d.Berth, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), "berth")); err == nil {
		return path, nil
	}
	return exec.LookPath("berth")
}

// onPath reports whether a shell that is given "berth" runs that program.
func onPath(berth string) bool {
	first, err := exec.LookPath("berth")
	if err != nil {
		return false
	}
	a, err := os.Stat(first)
	if err != nil {
		return false
	}
	b, err := os.Stat(berth)
	return err == nil && os.SameFile(a, b)
}

// clientLines is a line for each tunnel: what answers there, and the command
// of its usual client.
func (d *demo) clientLines(tunnels []state.Tunnel) (string, error) {
	width := 0
	titles := make([]string, len(tunnels))
	for i, t := range tunnels {
		titles[i] = "Kubernetes"
		if t.Kind == state.KindDB {
			titles[i] = d.servers[t.Protocol].title
		}
		width = max(width, len(titles[i]))
	}
	var b strings.Builder
	for i, t := range tunnels {
		program, argv, err := clientOf(t)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "  %-*s  %s\n", width, titles[i], shell.Quote(argv...))
		if _, err := exec.LookPath(program); err != nil {
			fmt.Fprintf(&b, "  %-*s  (%s is not installed here)\n", width, "", program)
		}
	}
	return b.String(), nil
}

// clientOf returns a tunnel's usual client, and a command that runs it.
func clientOf(t state.Tunnel) (program string, argv []string, err error) {
	if t.Kind == state.KindKube {
		return "kubectl", []string{"berth", "exec", t.Name, "--", "kubectl", "get", "pods"}, nil
	}
	proto, ep, err := endpointOf(t)
	if err != nil {
		return "", nil, err
	}
	if argv, err = proto.ClientCommand(ep); err != nil {
		return "", nil, err
	}
	return argv[0], argv, nil
}

// advice says what is not as usual here: that a policy is not obeyed, and why
// stand-ins answer and how to have real servers.
func (d *demo) advice() string {
	var b strings.Builder
	if policy := d.Policy.Load(); policy != nil {
		fmt.Fprintf(&b, "\nThe policy %s does not bind the demo's agent, which\n"+
			"leads to nothing but this simulated cluster. berth's commands obey it.\n", policy.Path)
	}
	for _, note := range d.failed {
		fmt.Fprintf(&b, "\n%s\n", note)
	}
	if len(d.missing) > 0 {
		b.WriteString("\nStand-ins answer for the databases that this machine does not have. The demo runs\n" +
			"real ones as soon as they are installed:\n\n")
		how := "sudo apt install "
		if _, err := exec.LookPath("apt"); err != nil {
			how = ""
		}
		fmt.Fprintf(&b, "  %s%s\n", how, strings.Join(d.missing, " "))
	}
	return b.String()
}
