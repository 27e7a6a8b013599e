package demo

import (
	"fmt"
	"os/exec"
	"runtime"
	"strings"

	"berth/agent/state"
	"berth/proxies/db"
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

In another terminal:

  %[3]s
  %[4]s status

Connect with these, or with your own tools at the same addresses:

%[5]s
What to look at:

  %[4]s status --watch
  %[4]s exec demo-pg -- psql -c 'select session identity'
  %[4]s tunnel url demo-pg --as jdbc
  %[4]s request create --role dba --reason trying --wait
  %[4]s request assume ID --tunnel demo-pg
  %[4]s logout
  %[4]s login
  %[4]s doctor

The password is %[7]s. While you are logged out, clients that connect wait for you.
A session lasts %[6]s and is renewed before that. Keep a client open: it goes on,
while new connections get a new cert (the "serial" that the second line shows).
Requests are approved after three seconds.

Ctrl-C ends the demo and removes everything.

`, user, len(tunnels), setHome(d.berthHome()), d.Program, clients, d.SessionTTL, password)
	return err
}

// setHome is the line that makes other berth commands use the demo's agent.
func setHome(dir string) string {
	if runtime.GOOS == "windows" {
		return "$env:BERTH_HOME = '" + strings.ReplaceAll(dir, "'", "''") + "'"
	}
	return "export BERTH_HOME=" + db.Quote([]string{dir})
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
		fmt.Fprintf(&b, "  %-10s  %s\n", title, db.Quote(argv))
		if _, err := exec.LookPath(argv[0]); err != nil {
			fmt.Fprintf(&b, "  %-10s  (%s is not installed here)\n", "", argv[0])
		}
	}
	return b.String(), nil
}

// clientOf returns what a tunnel speaks, and the command of its usual client.
func (d *demo) clientOf(t state.Tunnel) (title string, argv []string, err error) {
	if t.Kind == state.KindKube {
		return "Kubernetes", []string{d.Program, "exec", t.Name, "--", "kubectl", "get", "pods"}, nil
	}
	proto, ep, err := endpointOf(t)
	if err != nil {
		return "", nil, err
	}
	argv, err = proto.ClientCommand(ep)
	return proto.Title, argv, err
}
