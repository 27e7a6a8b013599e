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
	_, err = fmt.Fprintf(d.Out, `A simulated Teleport cluster runs on this machine, %[1]s is logged in to it, and
an agent keeps %[2]d tunnels to its databases and its Kubernetes cluster. Your own
logins, config, tunnels and kubeconfig are not touched.

In another terminal, first:

%[3]s
Then connect with these, or with your own tools at the same addresses:

%[4]s
What to look at:

  berth status
  berth status --watch
  berth exec demo-pg -- psql -c 'select * from session_identity'
  berth tunnel url demo-pg --as jdbc
  berth request create --role dba --reason trying --wait
  berth request assume ID --tunnel demo-pg
  berth logout
  berth login
  berth doctor

The password is %[6]s. While you are logged out, clients that connect wait for you.
A session lasts %[5]s and is renewed before that. Keep a client open: it goes on,
while new connections get a new cert (the "serial" that the second line shows).
Requests are approved after three seconds.

Ctrl-C ends the demo and removes everything.

`, user, len(tunnels), d.environment(), clients, d.SessionTTL, password)
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

// clientLines is a line for each tunnel: its protocol, and the command of its
// usual client.
func (d *demo) clientLines(tunnels []state.Tunnel) (string, error) {
	var b strings.Builder
	for _, t := range tunnels {
		title, argv, err := d.clientOf(t)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "  %-10s  %s\n", title, shell.Quote(argv...))
		if _, err := exec.LookPath(argv[0]); err != nil {
			fmt.Fprintf(&b, "  %-10s  (%s is not installed here)\n", "", argv[0])
		}
	}
	return b.String(), nil
}

// clientOf returns what a tunnel speaks, and the command of its usual client.
func (d *demo) clientOf(t state.Tunnel) (title string, argv []string, err error) {
	if t.Kind == state.KindKube {
		return "Kubernetes", []string{"berth", "exec", t.Name, "--", "kubectl", "get", "pods"}, nil
	}
	proto, ep, err := endpointOf(t)
	if err != nil {
		return "", nil, err
	}
	argv, err = proto.ClientCommand(ep)
	return proto.Title, argv, err
}
