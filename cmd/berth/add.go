package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/shell"
)

// quickAdd is "berth add": tunnels to what the clusters list, with as little to
// type as can be.
type quickAdd struct {
	all    bool
	labels []string
	kind   string
	yes    bool
	name   string
	json   bool
	query  client.ResourceQuery
	dbUser string
	dbName string
}

func (a *app) addCommand(use string) *cobra.Command {
	var o quickAdd
	kindNames := make([]string, len(state.Kinds))
	for i, info := range state.Kinds {
		kindNames[i] = string(info.Kind)
	}
	cmd := &cobra.Command{
		Use:   use + " RESOURCE [flags]",
		Short: "Add a tunnel to a database or Kubernetes cluster, by its name",
		Long: `Add a tunnel to the database or Kubernetes cluster of that name, as "berth
resources" lists it. The tunnel gets the same name. If several resources have that
name, or you may be several database users, you are asked at a terminal.

With --all every resource that has no tunnel yet gets one, or with --label those
with these labels. "berth tunnel add db" and "berth tunnel add kube" have more to
choose, and work while you are logged out.`,
		Example: `  berth add pg-prod
  berth add pg-prod --name orders --db-user reader
  berth add --all --label env=dev`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.all && len(args) > 0:
				return usageError{withHint(errors.New("--all and a RESOURCE do not go together"), seeHelp(cmd))}
			case !o.all && len(o.labels) > 0:
				return usageError{withHint(errors.New("--label goes with --all"), "add --all")}
			case o.all && (o.name != "" || o.dbUser != "" || o.dbName != ""):
				return usageError{withHint(errors.New("--all names and chooses for itself"), "leave --name, --db-user and --db-name out")}
			case o.all, cmd.HasSubCommands() && len(args) == 0: // which shows the help
				return nil
			}
			return exactArgs("RESOURCE")(cmd, args)
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, noCompletions
			}
			return a.resourceNames(cmd, state.Kind(o.kind))
		},
		PreRunE: func(cmd *cobra.Command, _ []string) error { return noneEmptyFlags(cmd, "kind", "cluster") },
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.kind != "" && !slices.Contains(kindNames, o.kind) {
				return usageError{withHint(fmt.Errorf("unknown kind of resource %q", o.kind), "use "+strings.Join(kindNames, " or "))}
			}
			o.query.Kind = state.Kind(o.kind)
			if !o.all && len(args) == 0 {
				return cmd.Help()
			}
			return a.withAgent(func(c *client.Client) error {
				if o.all {
					return a.addAll(cmd.Context(), c, o)
				}
				return a.addByName(cmd.Context(), c, args[0], o)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, "add a tunnel to each resource that has none")
	f.StringArrayVar(&o.labels, "label", nil, "with --all: only those with this label, as `KEY=VALUE`; may be repeated")
	f.StringVar(&o.kind, "kind", "", "only resources of this kind: "+strings.Join(kindNames, " or "))
	f.StringVar(&o.query.Cluster, "cluster", "", "only those of this cluster (default: all you are logged in to, and their leaves)")
	f.StringVar(&o.name, "name", "", "call the tunnel this (default: as the resource)")
	f.StringVar(&o.dbUser, "db-user", "", "the database user")
	f.StringVar(&o.dbName, "db-name", "", "the database in the server (default: the client's choice)")
	f.BoolVarP(&o.yes, "yes", "y", false, "with --all: do not ask")
	f.BoolVar(&o.json, "json", false, "print the new tunnel as JSON, with --all a list of them; asks nothing")
	must(cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(kindNames, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("cluster", a.completeClusters))
	for _, flag := range []string{"label", "name", "db-user", "db-name"} {
		must(cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions))
	}
	return cmd
}

// listed asks the clusters, and says which could not be asked.
func (a *app) listed(ctx context.Context, c *client.Client, q client.ResourceQuery) ([]client.Resource, error) {
	list, unasked, err := c.Resources(ctx, q)
	for _, why := range unasked {
		fmt.Fprintln(a.err, "berth: not listed: "+plain.Line(why))
	}
	return list, err
}

func (a *app) addByName(ctx context.Context, c *client.Client, name string, o quickAdd) error {
	list, err := a.listed(ctx, c, o.query)
	if err != nil {
		return err
	}
	s, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	if o.kind != "" && !inList(name, list) {
		if err := a.otherKind(ctx, c, name, o.query); err != nil {
			return err
		}
	}
	r, err := a.oneOf(ctx, name, list, o.json)
	if t, none := pick(s.Tunnels, name); err != nil && none == nil && !inList(name, list) {
		return withHint(err, fmt.Sprintf("the tunnel %q is there already and leads to %s: berth show %s", t[0].Name, t[0].Resource, shell.Quote(t[0].Name)))
	}
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(s.Tunnels, func(t state.Tunnel) bool { return t.Name == r.Tunnel }); i >= 0 && o.name == "" && o.dbUser == "" && o.dbName == "" {
		if o.json {
			return a.printJSON(s.Tunnels[i])
		}
		_, err := fmt.Fprintf(a.out, "the tunnel %s leads there already: %s\n", plain.Line(r.Tunnel), s.Tunnels[i].Address)
		return err
	}
	free := freeTunnelName(r.Name, tunnelNames(s.Tunnels))
	if t, err := pick(s.Tunnels, r.Name); err == nil && o.name == "" && !o.json {
		fmt.Fprintf(a.err, "berth: the tunnel %s leads to %s, so this one is %s\n", plain.Line(t[0].Name), plain.Line(t[0].Resource), plain.Line(free))
	}
	spec := state.TunnelSpec{
		Name: cmp.Or(o.name, free), Kind: r.Kind, Cluster: r.Cluster, Resource: r.Name,
		DBUser: o.dbUser, DBName: o.dbName,
	}
	if spec.DBUser == "" && slices.Contains(r.DBUsers, "*") && !o.json && a.canAsk() {
		if spec.DBUser, err = askAnyUser(ctx, a.askLine, r); err != nil {
			return err
		}
	}
	return a.tunnelAdd(ctx, addOptions{spec: spec, json: o.json})
}

// otherKind is the error about a name that the clusters list, but not with the kind that
// was asked for; nil where they do not list it at all.
func (a *app) otherKind(ctx context.Context, c *client.Client, name string, q client.ResourceQuery) error {
	wanted := q.Kind
	q.Kind = ""
	all, _, err := c.Resources(ctx, q) // what could not be asked was said
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(r client.Resource) bool { return r.Name == name && r.Kind != wanted })
	if i < 0 {
		return nil
	}
	return withHint(fmt.Errorf("the clusters list no %s %q, but a %s of that name", wanted.Info().Title, name, all[i].Kind.Info().Title),
		"leave --kind out, or see \"berth resources\"")
}

// inList reports whether the clusters list a resource of that name.
func inList(name string, list []client.Resource) bool {
	return slices.ContainsFunc(list, func(r client.Resource) bool { return r.Name == name })
}

// oneOf returns the resource of a name. A person chooses where there are several.
func (a *app) oneOf(ctx context.Context, name string, list []client.Resource, quiet bool) (client.Resource, error) {
	var found []client.Resource
	names := make([]string, len(list))
	for i, r := range list {
		names[i] = r.Name
		if r.Name == name {
			found = append(found, r)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		hint := cmp.Or(plain.DidYouMean(name, names), `see "berth resources"`)
		return client.Resource{}, withHint(fmt.Errorf("the clusters list no %q", name), hint)
	case quiet || !a.canAsk():
		return client.Resource{}, usageError{withHint(fmt.Errorf("there are %d resources called %q", len(found), name), "choose with --kind or --cluster")}
	}
	if err := a.printChoices(found); err != nil {
		return client.Resource{}, err
	}
	answer, err := a.askLine(ctx, "Which one?")
	if err != nil {
		return client.Resource{}, err
	}
	n, err := strconv.Atoi(answer)
	if err != nil || n < 1 || n > len(found) {
		return client.Resource{}, withHint(errors.New("none was chosen"), "choose with --kind or --cluster")
	}
	return found[n-1], nil
}

// printChoices lists resources with numbers, from one.
func (a *app) printChoices(list []client.Resource) error {
	rows := make([][]string, 0, len(list))
	for i, r := range list {
		rows = append(rows, []string{
			strconv.Itoa(i + 1), r.Name, cmp.Or(r.Protocol, strings.ToLower(r.Kind.Info().Protocol)), r.Cluster, r.Description,
		})
	}
	return a.table([]string{"", "NAME", "PROTOCOL", "CLUSTER", "DESCRIPTION"}, rows, nil, "DESCRIPTION", "PROTOCOL")
}

func (a *app) addAll(ctx context.Context, c *client.Client, o quickAdd) error {
	want := make(map[string]string)
	for _, label := range o.labels {
		key, value, ok := strings.Cut(label, "=")
		if !ok || key == "" {
			return usageError{withHint(fmt.Errorf("%q is no label", label), "write KEY=VALUE, as env=dev")}
		}
		want[key] = value
	}
	list, err := a.listed(ctx, c, o.query)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(r client.Resource) bool {
		for key, value := range want {
			if have, ok := r.Labels[key]; !ok || have != value {
				return true
			}
		}
		return r.Tunnel != ""
	})
	switch {
	case len(list) == 0 && !o.json:
		_, err := fmt.Fprintln(a.out, "nothing to add: the clusters list no such resource that has no tunnel yet")
		return err
	case len(list) > 0 && !o.json && !o.yes && a.canAsk():
		if err := a.printChoices(list); err != nil {
			return err
		}
		if !a.confirm(ctx, fmt.Sprintf("Add %d tunnels?", len(list))) {
			_, err := fmt.Fprintln(a.out, "nothing was added")
			return err
		}
	}
	s, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	return a.addEach(ctx, c, list, tunnelNames(s.Tunnels), o)
}

// notAdded says why a resource, one of several, has no tunnel. A hint that names a flag
// is for "berth add", which adds this one alone.
func notAdded(r client.Resource, err error) error {
	hint := hintOf(err)
	if _, rest, ok := strings.Cut(hint, "--db-user"); ok {
		hint = shell.Quote("berth", "add", r.Name, "--db-user", "USER") + rest
	}
	return withHint(fmt.Errorf("%s is not added: %w", r.Name, err), hint)
}

// addEach adds a tunnel to each resource. One that is refused keeps none of the
// others from being added.
func (a *app) addEach(ctx context.Context, c *client.Client, list []client.Resource, taken []string, o quickAdd) error {
	added, refused := []string{}, 0
	for _, r := range list {
		spec, err := a.addTunnel(ctx, c, state.TunnelSpec{Name: freeTunnelName(r.Name, taken), Kind: r.Kind, Cluster: r.Cluster, Resource: r.Name}, o.json || o.yes)
		if err != nil {
			refused++
			a.complain(notAdded(r, err))
			continue
		}
		added, taken = append(added, spec.Name), append(taken, spec.Name)
	}
	s, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	tunnels := slices.DeleteFunc(s.Tunnels, func(t state.Tunnel) bool { return !slices.Contains(added, t.Name) })
	if o.json {
		err = a.printJSON(tunnels)
	} else {
		for _, t := range tunnels {
			fmt.Fprintf(a.out, "added %s: %s → %s\n", t.Name, t.Address, plain.Line(resourceOf(t)))
		}
	}
	if refused > 0 {
		return errors.Join(err, fmt.Errorf("tunnels that were not added: %d", refused))
	}
	return err
}
