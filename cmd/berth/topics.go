package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth/internal/plain"
)

// topic is a page of "berth help" about something that is no command.
type topic struct{ name, short, text string }

// topicsText is all topics as one text.
func topicsText() string {
	var b strings.Builder
	for _, t := range topics {
		fmt.Fprintf(&b, "%s\n\n%s\n\n\n", t.short, t.text)
	}
	return b.String()
}

// topics are in the order in which they are listed. Their text is for a
// terminal; man pages have some of it, too.
var topics = []topic{
	{"ports", "How a tunnel gets its local port, and keeps it", `A tunnel's port is bound on 127.0.0.1 and ::1 from the start of the agent to its
end, logged in or not. It never changes by itself.

--port chooses it. Without, it follows from kind, cluster and resource, between
15000 and 29999, and is written to the config: the same file gives the same
ports on every machine. Tunnels to Kubernetes share one port.

If another program has the port, the tunnel shows "port in use" and berth binds
it as soon as it is free. "berth status" names that program where the system
says so.

  berth tunnel add db prod-pg --resource pg-prod --port 15432
  berth tunnel ls`},
	{"hold", "What happens to a client that connects before you log in", `A client that connects while a login is needed is held: its connection stays open
and it waits. One login, by berth or by tsh, serves all held clients. A client
that comes while the proxy is away is held in the same way.

After the tunnel's hold (60s by default, at most 10m; 0s means at once) the
client is refused in its own protocol, with the command that helps. Your client
may time out first: raise its connect timeout.

  berth tunnel add db prod-pg --resource pg-prod --hold 2m
  berth status --wait prod-pg`},
	{"guard", "Who may use a tunnel on this machine", `A port on 127.0.0.1 is open to every user of the machine. With guard: on, the
default, a tunnel to a database serves only programs of your own user; others
are turned away, and a notification tells you. Kubernetes clients show a client
certificate that only you can read.

guard: off in the config serves whoever reaches the port, such as a container
whose programs run as another user. Where the system does not say who a client
is, every local user is served. "berth status NAME" shows which it is.

  berth tunnel why prod-pg`},
	{"roles", "How to get roles that you do not have", `Ask for roles, or for access to resources, and assume them once the request is
approved: for the whole session, or for one tunnel alone. Drop them when you are
done. A tunnel that is denied because you lack a role names the request that
would help.

  berth tunnel why prod-pg
  berth request create --role dba --reason 'incident 42' --wait
  berth request assume 7c1f --tunnel prod-pg
  berth request drop 7c1f`},
	{"links", "What a berth:// link does", `A berth:// link on a page, in a ticket or in a chat opens berth at what it names:
a login, a tunnel, an access request or a recorded session. berth asks at the
desktop before it does anything, and refuses every text that is no such link.

"berth tray install" registers links with the desktop, "berth link" prints them.

  berth link tunnel prod-pg
  berth link add prod-pg`},
	{"metrics", "Health and metrics for programs that monitor berth", `metrics in the config has the agent serve /livez, /readyz, /readyz/NAME and
/metrics, for Prometheus and probes of your own user on this machine alone. It is
off unless you turn it on. Names are pseudonyms unless you set labels: names.

  metrics: {listen: 127.0.0.1:9090}   # without listen: a socket

  berth agent status                  # says where they are`},
	{"policy", "What whoever looks after a machine can decide", `A policy is a file of root's: /etc/berth/policy.yaml on Linux. It can forbid
features and proxies, and ship tunnels and defaults for everyone. What it forbids
has no effect in your config, which "berth config check" and "berth status" say.

  berth config check
  berth config check --policy policy.yaml`},
	{"files", "Where berth keeps its files", `  Linux    config      ~/.config/berth/config.yaml
           state       ~/.local/state/berth: kubeconfig, state, log
           socket      $XDG_RUNTIME_DIR/berth/agent.sock
  macOS    config      ~/Library/Application Support/berth/config.yaml
           state       ~/Library/Application Support/berth/state
           log         ~/Library/Logs/berth/agent.log
  Windows  config      %AppData%\berth\config.yaml
           state, log  %LocalAppData%\berth

The XDG variables are honoured, and BERTH_HOME puts everything under one folder.
Sessions are in ~/.tsh, where tsh keeps them; berth changes it only for logins,
renewals and access requests that go through berth.

  berth config path
  berth kube config --path`},
	{"environment", "Which variables berth obeys", `  BERTH_HOME               one folder for config, state, log and socket
  TELEPORT_HOME            the Teleport home, unless the config has homes
  XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_RUNTIME_DIR
                           where config, state and socket are, on Linux
  HTTPS_PROXY, NO_PROXY    the HTTP proxy on the way to Teleport
  SSL_CERT_FILE, SSL_CERT_DIR
                           the certificate authorities of the system
  BROWSER                  what opens login pages, unless the config names it
  VISUAL, EDITOR           the editor of "berth config edit"
  NO_COLOR, TERM=dumb      no colours

"berth agent install" writes the values of that moment into the service, all but
BROWSER, editors and colours; run it again after a change. A proxy's address with
a password in it is left out.

  berth agent install`},
	{"exit-codes", "What the exit code of a command means", `  0    done
  1    failed
  2    wrong usage: see the hint
  3    the agent is not running
  4    a login is needed
  128+ ended by a signal: 130 after Ctrl-C

"berth exec" ends with its program's own code, 126 if the program cannot be
executed, 127 if there is none. An error is two lines on standard error: what and
why, then the next step behind "hint:".

  berth status --wait --timeout 30s prod-pg || echo "code $?"`},
}

// topicOf is the topic of a name, or of the first word of one.
func topicOf(name string) (topic, bool) {
	i := slices.IndexFunc(topics, func(t topic) bool { return t.name == name || strings.HasPrefix(t.name, name+"-") })
	if i < 0 {
		return topic{}, false
	}
	return topics[i], true
}

// printTopics lists the topics, as the help of a group lists its commands.
func printTopics(w io.Writer) error {
	var b strings.Builder
	b.WriteString("What is not about one command.\n\nTopics:\n")
	for _, t := range topics {
		fmt.Fprintf(&b, "  %-11s %s\n", t.name, t.short)
	}
	b.WriteString("\n\"berth help TOPIC\" shows one.\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// noTopic is the error of a command that there is not, where a topic was meant.
func noTopic(err error, args []string) error {
	if t, ok := topicOf(args[0]); ok || args[0] == "topics" {
		name := cmp.Or(t.name, args[0])
		return usageError{withHint(fmt.Errorf("%q is a topic, and %q is none of its own", name, args[1]), "usage: berth help TOPIC")}
	}
	var names []string
	for _, t := range topics {
		names = append(names, t.name)
	}
	if near := plain.Nearest(args[0], names, strings.ToLower); near != "" && len(args) == 1 {
		return usageError{withHint(fmt.Errorf("there is no command and no topic %q", args[0]), fmt.Sprintf("did you mean %q?", "berth help "+near))}
	}
	return err
}

func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND...]",
		Short: "Show the help of a command, or of a topic",
		Long: `Show the help of a command, or of a topic: "berth help topics" lists those about
ports, held clients, the guard, roles, files, variables and exit codes.`,
		Example: "  berth help tunnel add db\n  berth help topics\n  berth help hold",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && args[0] == "topics" {
				return printTopics(cmd.OutOrStdout())
			}
			if len(args) == 1 {
				if t, ok := topicOf(args[0]); ok {
					_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s.\n\n%s\n", t.short, reflow(t.text))
					return err
				}
			}
			target, rest, err := cmd.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = noArgs(target, rest)
			}
			if err != nil {
				return noTopic(err, args)
			}
			return target.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			target, _, err := cmd.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, c := range target.Commands() {
				names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
			}
			if len(args) == 0 {
				for _, t := range topics {
					names = append(names, cobra.CompletionWithDesc(t.name, t.short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}
