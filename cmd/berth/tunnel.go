package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/agent/config"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/paths"
	"berth/proxies/db"
)

// withAgent runs f with a client of the running agent.
func (a *app) withAgent(f func(c *client.Client) error) (err error) {
	p, err := paths.Resolve(a.env)
	if err != nil {
		return err
	}
	c := client.Dial(p.Socket)
	defer func() { err = errors.Join(err, c.Close()) }()
	return f(c)
}

func (a *app) tunnelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tunnel",
		Short: "Add, list and control tunnels",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	add := &cobra.Command{
		Use:   "add",
		Short: "Add a tunnel to the config",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	add.AddCommand(a.tunnelAddDBCommand())
	cmd.AddCommand(add, a.tunnelListCommand(), a.tunnelURLCommand(),
		a.tunnelVerb("rm", "Remove a tunnel from the config", (*client.Client).RemoveTunnel, "removed"),
		a.tunnelVerb("start", "Start a stopped tunnel", (*client.Client).StartTunnel, "started"),
		a.tunnelVerb("stop", "Stop a tunnel and free its port, until it is started again", (*client.Client).StopTunnel, "stopped"),
		a.tunnelVerb("restart", "Close a tunnel's connections and fetch a new cert", (*client.Client).RestartTunnel, "restarted"),
	)
	return cmd
}

func (a *app) tunnelAddDBCommand() *cobra.Command {
	var spec client.TunnelSpec
	var hold time.Duration
	var engine string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "db NAME --resource RESOURCE",
		Short: "Add a tunnel to a database",
		Long: `Add a tunnel to a database. The port is written to the config, so the address
stays the same on every start and on every machine that uses the same config.
Without --port one is derived from the cluster and the resource.`,
		Example: `  berth tunnel add db prod-pg --resource pg-prod --db-user alice --db-name app
  psql "$(berth tunnel url prod-pg)"`,
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec.Name, spec.Kind, spec.Engine = args[0], state.KindDB, state.Engine(engine)
			if cmd.Flags().Changed("port") && (spec.Port < 1 || spec.Port > 65535) {
				return usageError{withHint(fmt.Errorf("port %d does not exist", spec.Port), "use a port from 1024 to 65535, or leave --port out")}
			}
			if cmd.Flags().Changed("hold") {
				spec.Hold = &hold
			}
			return a.withAgent(func(c *client.Client) error {
				added, err := c.AddTunnel(cmd.Context(), spec)
				if err != nil {
					return err
				}
				if asJSON {
					return a.printTunnelJSON(cmd.Context(), c, added.Name)
				}
				fmt.Fprintf(a.out, "added %s on 127.0.0.1:%d\n", added.Name, added.Port)
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&spec.Resource, "resource", "", "the database's name in Teleport (required)")
	f.StringVar(&spec.Cluster, "cluster", "", "the cluster it is in (default: the current profile's)")
	f.StringVar(&spec.DBUser, "db-user", "", "database user")
	f.StringVar(&spec.DBName, "db-name", "", "database name")
	f.IntVar(&spec.Port, "port", 0, "local port (default: derived from cluster and resource)")
	f.DurationVar(&hold, "hold", config.DefaultHold, "how long a client is held while a login is needed")
	f.StringVar(&engine, "engine", "", "auto, native or tsh (default auto)")
	f.BoolVar(&asJSON, "json", false, "print the new tunnel as JSON")
	must(cmd.MarkFlagRequired("resource"))
	must(cmd.RegisterFlagCompletionFunc("resource", a.completeResources))
	must(cmd.RegisterFlagCompletionFunc("engine", cobra.FixedCompletions([]string{"auto", "native", "tsh"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// must is for mistakes in how the commands are put together.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (a *app) printTunnelJSON(ctx context.Context, c *client.Client, name string) error {
	s, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	list, err := pick(s.Tunnels, name)
	if err != nil {
		return err
	}
	return a.printJSON(list[0])
}

func (a *app) tunnelVerb(verb, short string, do func(*client.Client, context.Context, string) error, done string) *cobra.Command {
	return &cobra.Command{
		Use:               verb + " NAME",
		Short:             short,
		Args:              exactArgs("NAME"),
		ValidArgsFunction: a.completeTunnels,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAgent(func(c *client.Client) error {
				if err := do(c, cmd.Context(), args[0]); err != nil {
					return err
				}
				fmt.Fprintln(a.out, done, args[0])
				return nil
			})
		},
	}
}

func (a *app) tunnelListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the tunnels",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAgent(func(c *client.Client) error {
				s, err := c.Snapshot(cmd.Context())
				if err != nil {
					return err
				}
				if asJSON {
					return a.printJSON(s.Tunnels)
				}
				return printTunnels(a.out, s.Tunnels)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the tunnels as JSON")
	return cmd
}

func (a *app) tunnelURLCommand() *cobra.Command {
	var as string
	cmd := &cobra.Command{
		Use:   "url NAME",
		Short: "Print how a client connects to a tunnel",
		Long: `Print how a client connects to a tunnel, ready to paste:
  url        for psql, redis-cli -u, mongosh and most libraries
  jdbc       for DBeaver, DataGrip and Java
  dsn        for libpq and Go's MySQL driver
  env        KEY=VALUE lines for a shell
  pgservice  a section of ~/.pg_service.conf
  mycnf      a section of ~/.my.cnf`,
		Example: `  psql "$(berth tunnel url prod-pg)"
  export $(berth tunnel url prod-pg --as env)`,
		Args:              exactArgs("NAME"),
		ValidArgsFunction: a.completeTunnels,
		RunE: func(cmd *cobra.Command, args []string) error {
			proto, ep, err := a.endpoint(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			text, err := proto.Format(db.Format(as), ep)
			if err != nil {
				return usageError{err}
			}
			_, err = fmt.Fprintln(a.out, strings.TrimRight(text, "\n"))
			return err
		},
	}
	var formats []string
	for _, f := range db.AllFormats {
		formats = append(formats, string(f))
	}
	cmd.Flags().StringVar(&as, "as", string(db.URL), "url, jdbc, dsn, env, pgservice or mycnf")
	must(cmd.RegisterFlagCompletionFunc("as", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// endpoint finds out what a client needs to know to use a tunnel: the running
// agent knows the address and protocol, the config the database user and name.
func (a *app) endpoint(ctx context.Context, name string) (db.Protocol, db.Endpoint, error) {
	var none db.Protocol
	p, err := paths.Resolve(a.env)
	if err != nil {
		return none, db.Endpoint{}, err
	}
	var t state.Tunnel
	err = a.withAgent(func(c *client.Client) error {
		s, err := c.Snapshot(ctx)
		if err != nil {
			return err
		}
		list, err := pick(s.Tunnels, name)
		if err == nil {
			t = list[0]
		}
		return err
	})
	if err != nil {
		return none, db.Endpoint{}, err
	}
	if t.Protocol == "" {
		err := fmt.Errorf("the protocol of tunnel %q is not known yet: the cluster tells it after a login", name)
		if t.Problem != nil {
			err = withHint(err, t.Problem.Action)
		}
		return none, db.Endpoint{}, errors.Join(err)
	}
	proto, ok := db.Lookup(t.Protocol)
	if !ok {
		return none, db.Endpoint{}, fmt.Errorf("protocol %q of tunnel %q is not known to berth", t.Protocol, name)
	}
	cfg, err := config.Load(p.Config)
	if err != nil {
		return none, db.Endpoint{}, err
	}
	spec, _ := cfg.Tunnel(name)
	host, port, err := splitAddress(t.Address)
	if err != nil {
		return none, db.Endpoint{}, err
	}
	return proto, db.Endpoint{Host: host, Port: port, DBUser: spec.DBUser, DBName: spec.DBName, TunnelName: name}, nil
}
