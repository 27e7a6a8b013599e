package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/proxies/db"
)

func (a *app) tunnelURLCommand() *cobra.Command {
	var as string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "url NAME [flags]",
		Short: "Print how a client connects to a tunnel",
		Long: `Print how a client connects to a tunnel, ready to paste:
  url        for psql, redis-cli -u, mongosh and most libraries
  jdbc       for DBeaver, DataGrip and Java
  dsn        for libpq, Go's MySQL driver and ADO.NET
  env        lines for a shell to export
  pgservice  a section of ~/.pg_service.conf
  mycnf      sections of ~/.my.cnf
A tunnel to a Kubernetes cluster has url, the API server's address, and env.`,
		Example: `  psql "$(berth tunnel url prod-pg)"
  eval "$(berth tunnel url prod-pg --as env)"
  berth tunnel url prod-pg --as pgservice >> ~/.pg_service.conf`,
		Args:              exactArgs("NAME"),
		ValidArgsFunction: a.completeTunnels,
		RunE: func(cmd *cobra.Command, args []string) error {
			if asJSON && cmd.Flags().Changed("as") {
				return usageError{withHint(errors.New("--json and --as do not go together"), "--json has every format")}
			}
			t, err := a.tunnel(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if t.Kind == state.KindKube {
				return a.printKubeURL(t, as, asJSON, cmd.Flags().Changed("as"))
			}
			proto, ep, err := endpointOf(t)
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(connectionOf(proto, ep))
			}
			text, err := proto.Format(db.Format(as), ep)
			if err != nil {
				return usageError{err}
			}
			_, err = fmt.Fprintln(a.out, strings.TrimRight(text, "\n"))
			return err
		},
	}
	cmd.Flags().StringVar(&as, "as", string(db.URL), "the format: "+join(db.AllFormats))
	cmd.Flags().BoolVar(&asJSON, "json", false, "print every format the protocol has as JSON")
	must(cmd.RegisterFlagCompletionFunc("as",
		cobra.FixedCompletions(strings.Split(join(db.AllFormats), ", "), cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// connection is the JSON of "berth tunnel url".
type connection struct {
	Name     string               `json:"name"`
	Protocol string               `json:"protocol"`
	Host     string               `json:"host"`
	Port     int                  `json:"port"`
	DBUser   string               `json:"db_user"` // empty: the client's choice
	DBName   string               `json:"db_name"` // likewise
	Formats  map[db.Format]string `json:"formats"` // what the protocol has
	Command  []string             `json:"command"` // the usual client; empty when there is none
}

func connectionOf(proto db.Protocol, ep db.Endpoint) connection {
	c := connection{
		Name: ep.TunnelName, Protocol: proto.Name, Host: ep.Host, Port: ep.Port, DBUser: ep.DBUser, DBName: ep.DBName,
		Formats: map[db.Format]string{}, Command: []string{},
	}
	for _, f := range proto.Formats() {
		if text, err := proto.Format(f, ep); err == nil { // a name may not fit into one of them
			c.Formats[f] = text
		}
	}
	if argv, err := proto.ClientCommand(ep); err == nil {
		c.Command = argv
	}
	return c
}

// tunnel asks the agent for one tunnel.
func (a *app) tunnel(ctx context.Context, name string) (t state.Tunnel, err error) {
	err = a.withAgent(func(c *client.Client) (err error) {
		t, err = find(ctx, c, name)
		return err
	})
	return t, err
}

// endpointOf is what a client needs to know to use a tunnel.
func endpointOf(t state.Tunnel) (db.Protocol, db.Endpoint, error) {
	ep := db.Endpoint{DBUser: t.DBUser, DBName: t.DBName, TunnelName: t.Name}
	proto, ok := db.Lookup(t.Protocol)
	if !ok {
		return proto, ep, unknownProtocol(t)
	}
	host, port, err := net.SplitHostPort(t.Address)
	if err != nil {
		return proto, ep, fmt.Errorf("address of tunnel %q: %w", t.Name, err)
	}
	ep.Host = host
	if ep.Port, err = strconv.Atoi(port); err != nil {
		return proto, ep, fmt.Errorf("address of tunnel %q: %w", t.Name, err)
	}
	return proto, ep, nil
}

// unknownProtocol says why it is not known what a tunnel's clients speak.
func unknownProtocol(t state.Tunnel) error {
	switch {
	case t.Protocol != "":
		return withHint(fmt.Errorf("berth does not know the protocol %q of tunnel %q", t.Protocol, t.Name),
			"connect your client to "+t.Address)
	case t.State == state.TunnelStopped:
		return withHint(fmt.Errorf("tunnel %q is stopped", t.Name), fmt.Sprintf("start it with %q", "berth tunnel start "+t.Name))
	case t.Problem != nil:
		err := fmt.Errorf("what tunnel %q leads to is not known yet: %s", t.Name, strings.TrimSuffix(t.Problem.Text, "."))
		if t.State == state.TunnelWaitingForLogin {
			err = fmt.Errorf("%w: %w", errLoginNeeded, err)
		}
		return withHint(err, t.Problem.Action)
	default:
		return withHint(fmt.Errorf("what tunnel %q leads to is not known yet", t.Name),
			fmt.Sprintf("wait with %q", "berth status --wait --timeout 30s "+t.Name))
	}
}
