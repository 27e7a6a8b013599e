package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/clientfiles"
	"berth/internal/plain"
	"berth/internal/shell"
)

// A proposal is a tunnel that another program's entry asks for.
type proposal struct {
	From   string           `json:"from"` // the entry's name there
	Tunnel state.TunnelSpec `json:"tunnel"`
	// State is "new", "added", "refused", "there" when the tunnel named by Tunnel
	// does it already, or "unclear".
	State string `json:"state"`
	// Why is why it is unclear or was refused, or how the tunnel differs from the
	// entry; else empty.
	Why string `json:"why"`
}

func (a *app) importCommand() *cobra.Command {
	var file string
	var write, asJSON bool
	var names []string
	for _, s := range clientfiles.Sources {
		names = append(names, s.Name)
	}
	cmd := &cobra.Command{
		Use:   "import SOURCE [flags]",
		Short: "Propose tunnels from what other programs know",
		Long: `Propose tunnels from what other programs on this machine know:
  dbeaver    DBeaver's connections to this machine, or with a cert of tsh's
  pgservice  services in ~/.pg_service.conf, by the same rule
  tsh        databases and Kubernetes clusters that tsh has logged in to
  connect    the tabs and connections of Teleport Connect, with their ports

Nothing is changed without --write, which adds the new ones to the config as
"berth tunnel add" does: where you may be several database users and the entry names
none, you are asked at a terminal. A local port stays what it was, so that clients need no
change; close what listens there now. Where an entry names no resource, the
cluster's list is searched for one of its name.`,
		Example: `  berth import connect
  berth import connect --write`,
		Args: exactArgs("SOURCE"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, noCompletions
			}
			var list []string
			for _, s := range clientfiles.Sources {
				list = append(list, described(s.Name, s.Title))
			}
			return list, noCompletions
		},
		PreRunE: func(cmd *cobra.Command, _ []string) error { return noneEmptyFlags(cmd, "file") },
		RunE: func(cmd *cobra.Command, args []string) error {
			source, ok := clientfiles.LookupSource(args[0])
			if !ok {
				return usageError{withHint(fmt.Errorf("berth cannot import from %q", args[0]), "use one of "+strings.Join(names, ", "))}
			}
			return a.importFrom(cmd.Context(), source, file, write, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "file", "", "the program's file, or tsh's home (default: where the program keeps it)")
	f.BoolVar(&write, "write", false, "add the new tunnels to the config")
	f.BoolVar(&asJSON, "json", false, "print the proposals as JSON")
	return cmd
}

func (a *app) importFrom(ctx context.Context, source clientfiles.Source, file string, write, asJSON bool) error {
	path := file
	if path == "" {
		places, err := clientfiles.Here(a.env)
		if err != nil {
			return err
		}
		if path, err = source.Default(places); err != nil {
			return withHint(err, "name it with --file")
		}
	}
	found, err := source.Read(path)
	if err != nil {
		return withHint(err, "name another with --file")
	}
	return a.withAgent(func(c *client.Client) error {
		s, err := c.Snapshot(ctx)
		if err != nil {
			return err
		}
		// Without a login there is no list; entries that name their resource
		// need none.
		offers, _, err := c.Resources(ctx, client.ResourceQuery{})
		if err != nil {
			a.complain(withHint(fmt.Errorf("the clusters' lists cannot be searched: %w", err), ""))
		}
		list := propose(found, s, offers)
		var refused error
		if write {
			refused = a.addProposals(ctx, c, list, asJSON)
		}
		if asJSON {
			return cmp.Or(a.printJSON(list), refused)
		}
		return cmp.Or(a.printProposals(source, file, list, write), refused)
	})
}

// propose makes a tunnel of each entry. Two entries for the same resource, user
// and database make one.
func propose(found []clientfiles.Found, s state.Snapshot, offers []client.Resource) []proposal {
	tunnels := make([]state.TunnelSpec, 0, len(s.Tunnels)+len(found))
	for _, t := range s.Tunnels {
		tunnels = append(tunnels, t.TunnelSpec)
	}
	list := []proposal{}
	for _, f := range found {
		p := proposal{From: f.From, Tunnel: state.TunnelSpec{
			Kind: f.Kind, Cluster: f.Cluster, Resource: f.Resource, DBUser: f.DBUser, DBName: f.DBName, Port: f.Port,
		}}
		spec := &p.Tunnel
		p.Why = resolveFound(spec, f, s.Profiles, offers)
		same := func(t state.TunnelSpec) bool {
			return spec.Resource == t.Resource && spec.Kind == t.Kind && spec.Cluster == t.Cluster &&
				spec.DBUser == t.DBUser && spec.DBName == t.DBName
		}
		i := slices.IndexFunc(tunnels, same)
		if i < 0 && f.Port != 0 { // the entry may lead to a tunnel already
			i = slices.IndexFunc(tunnels, func(t state.TunnelSpec) bool { return t.Port == f.Port })
		}
		switch {
		case i >= 0:
			p.Tunnel, p.State, p.Why = tunnels[i], "there", ""
			if at := tunnels[i].Port; f.Port != 0 && at != 0 && f.Port != at {
				p.Why = fmt.Sprintf("at port %d: change the entry, which has %d", at, f.Port)
			}
		case p.Why != "":
			p.State = "unclear"
		default:
			p.State = "new"
			spec.Name = freeTunnelName(cmp.Or(spec.Resource, f.From), specNames(tunnels))
			tunnels = append(tunnels, *spec)
		}
		list = append(list, p)
	}
	return list
}

func specNames(specs []state.TunnelSpec) []string {
	names := make([]string, len(specs))
	for i, t := range specs {
		names[i] = t.Name
	}
	return names
}

// resolveFound fills in what the entry does not say, and returns why it cannot.
func resolveFound(spec *state.TunnelSpec, f clientfiles.Found, profiles []state.Profile, offers []client.Resource) string {
	if spec.Cluster == "" && f.Proxy != "" {
		i := slices.IndexFunc(profiles, func(p state.Profile) bool {
			host, _, err := net.SplitHostPort(p.Proxy)
			return err == nil && host == f.Proxy
		})
		if i < 0 {
			return "berth knows no session at " + f.Proxy
		}
		spec.Cluster = profiles[i].Cluster
		// The profile may have selected a leaf: the list knows better.
		if listed := matching(f, offers); len(listed) == 1 && listed[0].Name == spec.Resource {
			spec.Cluster = listed[0].Cluster
		}
	}
	if spec.Port != 0 && spec.Port < 1024 {
		spec.Port = 0 // privileged: berth chooses another
	}
	if spec.Resource != "" {
		return ""
	}
	matches := matching(f, offers)
	switch len(matches) {
	case 0:
		return "no resource has a name like it"
	case 1:
		spec.Cluster, spec.Resource = matches[0].Cluster, matches[0].Name
		return ""
	default:
		names := make([]string, len(matches))
		for i, r := range matches {
			names[i] = r.Name
		}
		return "it may be " + strings.Join(names, " or ")
	}
}

// matching returns the resources of an entry's name; without one of exactly
// that name, those whose name is a part of it.
func matching(f clientfiles.Found, offers []client.Resource) []client.Resource {
	usable := func(like func(name string) bool) []client.Resource {
		return slices.DeleteFunc(slices.Clone(offers), func(r client.Resource) bool {
			return r.Kind != f.Kind || f.Protocol != "" && r.Protocol != f.Protocol || !like(strings.ToLower(r.Name))
		})
	}
	from := strings.ToLower(f.From)
	if exact := usable(func(name string) bool { return name == from }); len(exact) > 0 {
		return exact
	}
	return usable(func(name string) bool { return strings.Contains(from, name) })
}

// addProposals adds the new tunnels. One that the agent refuses keeps none of the
// others from being added, and is not there for further entries that lead to it.
func (a *app) addProposals(ctx context.Context, c *client.Client, list []proposal, asJSON bool) error {
	refused := make(map[string]string) // why, by the name that the tunnel was to have
	for i := range list {
		p := &list[i]
		if why, ok := refused[p.Tunnel.Name]; ok && p.State == "there" {
			p.State, p.Why = "refused", why
		}
		if p.State != "new" {
			continue
		}
		added, err := a.addTunnel(ctx, c, p.Tunnel, asJSON)
		if err == nil {
			p.Tunnel, p.State = added, "added"
			continue
		}
		if p.State, p.Why = "refused", err.Error(); hintOf(err) != "" {
			p.Why += ": " + hintOf(err)
		}
		refused[p.Tunnel.Name] = p.Why
	}
	if len(refused) > 0 {
		return withHint(fmt.Errorf("new tunnels that were not added: %d", len(refused)), "add them one by one, as shown, with what was missing")
	}
	return nil
}

// printProposals shows each entry with the command that would add its tunnel. A file is
// what was given with --file.
func (a *app) printProposals(source clientfiles.Source, file string, list []proposal, write bool) error {
	if len(list) == 0 {
		_, err := fmt.Fprintf(a.out, "nothing found: berth looks for %s\n", source.Title)
		return err
	}
	var b strings.Builder
	fresh := 0
	for _, p := range list {
		switch from := plain.Line(p.From); p.State {
		case "there":
			how := ""
			if p.Why != "" {
				how = ", " + p.Why
			}
			fmt.Fprintf(&b, "= %s: the tunnel %s does it%s\n", from, p.Tunnel.Name, how)
		case "unclear":
			fmt.Fprintf(&b, "? %s: %s\n", from, plain.Line(p.Why))
		case "refused":
			fmt.Fprintf(&b, "! %s: %s\n    %s\n", from, plain.Line(p.Why), plain.Line(addCommand(p.Tunnel)))
		case "added":
			fmt.Fprintf(&b, "added %s: %s in %s, port %d\n", p.Tunnel.Name, plain.Line(p.Tunnel.Resource), plain.Line(p.Tunnel.Cluster), p.Tunnel.Port)
		default:
			fresh++
			fmt.Fprintf(&b, "+ %s\n    %s\n", from, plain.Line(addCommand(p.Tunnel)))
		}
	}
	if fresh > 0 && !write {
		argv := []string{"berth", "import", source.Name, "--write"}
		if file != "" {
			argv = slices.Insert(argv, 3, "--file", file)
		}
		fmt.Fprintf(&b, "nothing was changed: %s adds %d\n", plain.Line(shell.Quote(argv...)), fresh)
	}
	_, err := fmt.Fprint(a.out, b.String())
	return err
}

// addCommand writes the command that adds a tunnel.
func addCommand(t state.TunnelSpec) string {
	argv := []string{"berth", "tunnel", "add", string(t.Kind), t.Name, "--resource", t.Resource}
	for _, f := range []struct{ flag, value string }{
		{"--cluster", t.Cluster}, {"--db-user", t.DBUser}, {"--db-name", t.DBName},
	} {
		if f.value != "" {
			argv = append(argv, f.flag, f.value)
		}
	}
	if t.Port != 0 {
		argv = append(argv, "--port", fmt.Sprint(t.Port))
	}
	return shell.Quote(argv...)
}
