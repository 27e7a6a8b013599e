package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/clientfiles"
	"berth/internal/paths"
	"berth/internal/plain"
	"berth/proxies/db"
)

// clientOptions are the flags of the commands that change a client's file.
type clientOptions struct {
	file   string
	yes    bool
	dryRun bool
	json   bool
}

// clientChange is the JSON of a change.
type clientChange struct {
	Client  string `json:"client"`
	Tunnel  string `json:"tunnel"`
	File    string `json:"file"`
	Backup  string `json:"backup"` // empty: none was needed
	Changed bool   `json:"changed"`
	Diff    string `json:"diff"`
	Use     string `json:"use"` // how to use the entry; empty after a removal
}

func (a *app) clientCommand() *cobra.Command {
	return commandGroup("client", "Put tunnels into the config files of database clients",
		a.clientAddCommand(), a.clientRemoveCommand(), a.clientListCommand())
}

func clientNames() []string {
	var names []string
	for _, c := range clientfiles.Clients {
		names = append(names, c.Name)
	}
	return names
}

func (a *app) clientAddCommand() *cobra.Command {
	var o clientOptions
	cmd := &cobra.Command{
		Use:   "add CLIENT NAME [flags]",
		Short: "Write an entry for a tunnel into a client's own file",
		Long: `Write an entry for a tunnel into a client's own file, after you have seen the
difference and agreed:
  dbeaver    a connection in DBeaver's data-sources.json
  pgservice  a section of ~/.pg_service.conf, or of PGSERVICEFILE
  mycnf      groups of ~/.my.cnf, for --defaults-group-suffix
  vscode     a connection of SQLTools in VS Code's settings.json

Your own entries and comments stay as they are, to the byte, and a copy of the file
is kept beside it. The entry says that it is berth's; "berth client rm" takes it out.
A file that its client could not read is not touched. Quit DBeaver first: it writes
its own file when it closes.`,
		Example: `  berth client add pgservice prod-pg
  psql service=prod-pg`,
		Args:              exactArgs("CLIENT", "NAME"),
		ValidArgsFunction: a.completeClientTunnel,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.clientAdd(cmd.Context(), args[0], args[1], o)
		},
	}
	o.flags(cmd)
	return cmd
}

func (a *app) clientRemoveCommand() *cobra.Command {
	var o clientOptions
	cmd := &cobra.Command{
		Use:   "rm CLIENT NAME [flags]",
		Short: "Remove berth's entry from a client's own file",
		Long: `Remove berth's entry from a client's own file, after you have seen the difference
and agreed. If the file has not changed since the entry was added, it is then as it
was before, to the byte. It needs no agent, and no tunnel of that name.`,
		Example:           `  berth client rm pgservice prod-pg`,
		Args:              exactArgs("CLIENT", "NAME"),
		ValidArgsFunction: a.completeClientEntry,
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := a.clientFile(args[0], o.file)
			if err != nil {
				return err
			}
			change, err := f.Drop(args[1])
			if errors.Is(err, clientfiles.ErrNone) {
				return withHint(err, "see what there is with: berth client ls")
			}
			if err != nil {
				return clientError(err)
			}
			return a.applyClient(cmd.Context(), change, clientChange{Client: args[0], Tunnel: args[1]}, "removed", o)
		},
	}
	o.flags(cmd)
	return cmd
}

func (o *clientOptions) flags(cmd *cobra.Command) {
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error { return noneEmptyFlags(cmd, "file") }
	f := cmd.Flags()
	f.StringVar(&o.file, "file", "", "the client's file (default: where the client itself looks)")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask before the file is written")
	f.BoolVar(&o.dryRun, "dry-run", false, "show the difference and write nothing")
	f.BoolVar(&o.json, "json", false, "print what was done as JSON")
}

// clientFile returns the file of a client, by its name: the usual one unless a path is
// given. Where the program has no file yet, the rest is returned beside the error.
func (a *app) clientFile(name, path string) (clientfiles.File, error) {
	c, ok := clientfiles.Lookup(name)
	if !ok {
		return clientfiles.File{}, usageError{withHint(fmt.Errorf("berth knows no file of a client %q", name),
			"use one of "+strings.Join(clientNames(), ", "))}
	}
	p, err := paths.Resolve(a.env)
	if err != nil {
		return clientfiles.File{}, err
	}
	f := clientfiles.File{Client: c, Record: filepath.Join(p.StateDir, "client-files.json")}
	places, err := clientfiles.Here(a.env)
	if err == nil {
		f.Path, err = c.Path(places)
	}
	if path == "" && err != nil {
		return f, withHint(err, "start the program once, or name its file with --file")
	}
	if path == "" {
		return f, nil
	}
	if path, err = filepath.Abs(path); path != f.Path {
		f.Path, f.Named = path, path
	}
	return f, err
}

// clientAdd prepares the entry from what the tunnel is now: its protocol is the
// cluster's to say.
func (a *app) clientAdd(ctx context.Context, name, tunnel string, o clientOptions) error {
	f, err := a.clientFile(name, o.file)
	if err != nil {
		return err
	}
	t, err := a.tunnel(ctx, tunnel)
	if err != nil {
		return err
	}
	if t.Kind != state.KindDB {
		return usageError{withHint(fmt.Errorf("tunnel %q does not lead to a database", tunnel), "for Kubernetes: berth kube config merge")}
	}
	proto, ep, err := endpointOf(t)
	if err != nil {
		return err
	}
	if !slices.Contains(f.Client.Protocols, proto.Name) {
		return usageError{withHint(fmt.Errorf("%s has no entries for %s", f.Client.Title, proto.Title),
			"see what the tunnel has with: berth tunnel url --json "+tunnel)}
	}
	change, err := f.Add(proto, ep)
	if err != nil {
		return clientError(err)
	}
	word := "added"
	if had, err := f.Client.Entries(change.Before); err == nil &&
		slices.ContainsFunc(had, func(e clientfiles.Entry) bool { return e.Tunnel == tunnel }) {
		word = "changed"
	}
	return a.applyClient(ctx, change, clientChange{Client: name, Tunnel: tunnel, Use: f.Use(tunnel)}, word, o)
}

// clientError says what to do about a file that was refused.
func clientError(err error) error {
	var broken *clientfiles.BrokenError
	switch {
	case errors.Is(err, clientfiles.ErrTaken):
		return withHint(err, "rename that entry, or the tunnel")
	case errors.As(err, &broken):
		return withHint(err, "correct it, or name another file with --file")
	default:
		return err
	}
}

// applyClient shows the change, asks unless --yes is given, and writes it.
func (a *app) applyClient(ctx context.Context, change *clientfiles.Change, done clientChange, word string, o clientOptions) error {
	done.File = change.Path
	if change.Changed() {
		done.Diff = clientfiles.Diff(change.Before, change.After)
	}
	if !o.json {
		a.printDiff(done)
	}
	if change.Changed() && !o.dryRun {
		if !o.yes {
			if !a.canAsk() || o.json {
				return usageError{withHint(errors.New("berth asks before it writes into another program's file, and there is no terminal"),
					"give --yes, or --dry-run to see the difference")}
			}
			if !a.confirm(ctx, "Write it?") {
				return errors.New("nothing was written")
			}
		}
		backup, err := change.Apply()
		if errors.Is(err, clientfiles.ErrChanged) {
			return withHint(err, "run the command again")
		}
		if err != nil {
			return err
		}
		done.Backup, done.Changed = backup, true
	}
	switch {
	case o.json:
		return a.printJSON(done)
	case o.dryRun && change.Changed():
		_, err := fmt.Fprintln(a.out, "nothing was written: it was a dry run")
		return err
	}
	return a.printClientDone(done, word)
}

func (a *app) printDiff(done clientChange) {
	if done.Diff == "" {
		return
	}
	fmt.Fprintf(a.out, "%s\n", plain.Line(done.File))
	for line := range strings.Lines(done.Diff) {
		fmt.Fprintln(a.out, plain.Line(strings.TrimSuffix(line, "\n")))
	}
}

func (a *app) printClientDone(done clientChange, word string) error {
	var b strings.Builder
	if done.Changed {
		fmt.Fprintf(&b, "%s %s in %s\n", word, done.Tunnel, plain.Line(done.File))
	} else {
		fmt.Fprintf(&b, "%s is up to date\n", plain.Line(done.File))
	}
	if done.Backup != "" {
		fmt.Fprintf(&b, "  what it was before is in %s\n", plain.Line(done.Backup))
	}
	if done.Use != "" {
		fmt.Fprintf(&b, "  %s\n", plain.Line(done.Use))
	}
	_, err := fmt.Fprint(a.out, b.String())
	return err
}

// clientEntry is the JSON of an entry in a client's file.
type clientEntry struct {
	Client string `json:"client"`
	File   string `json:"file"`
	clientfiles.Entry
	// State is "current", "outdated" when the tunnel has another address now,
	// "no tunnel", or "unknown" while no agent runs. A file that cannot be read is
	// an entry without a tunnel, and is "unreadable".
	State string `json:"state"`
	Why   string `json:"why"` // of an unreadable file; else empty
}

func (a *app) clientListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List berth's entries in the files of database clients",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list := a.clientEntries(cmd.Context())
			if asJSON {
				return a.printJSON(list)
			}
			if len(list) == 0 {
				_, err := fmt.Fprintln(a.out, `no entries; see "berth client add --help"`)
				return err
			}
			var rows [][]string
			for _, e := range list {
				rows = append(rows, []string{e.Client, e.Tunnel, e.Address, e.State, e.File})
				if e.Why != "" {
					fmt.Fprintf(a.err, "berth: warning: %s\n", plain.Line(e.Why))
				}
			}
			return a.table([]string{"CLIENT", "TUNNEL", "ADDRESS", "STATE", "FILE"}, rows, nil, "ADDRESS")
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the entries as JSON")
	return cmd
}

// clientEntries looks into every client's usual file, and into those where entries went
// with --file. A program that is not there has no usual one; a file that cannot be read
// is an entry beside the others'.
func (a *app) clientEntries(ctx context.Context) []clientEntry {
	var tunnels []state.Tunnel
	known := a.withAgent(func(c *client.Client) error {
		s, err := c.Snapshot(ctx)
		tunnels = s.Tunnels
		return err
	}) == nil
	list := []clientEntry{}
	for _, name := range clientNames() {
		usual, err := a.clientFile(name, "")
		files := usual.Others()
		if err == nil { // else the program has never been started
			files = slices.Insert(files, 0, usual)
		}
		for _, f := range files {
			entries, err := f.Entries()
			if err != nil {
				list = append(list, clientEntry{Client: name, File: f.Path, State: "unreadable", Why: err.Error()})
				continue
			}
			for _, e := range entries {
				list = append(list, clientEntry{Client: name, File: f.Path, Entry: e, State: entryState(e, tunnels, known)})
			}
		}
	}
	return list
}

func entryState(e clientfiles.Entry, tunnels []state.Tunnel, known bool) string {
	if !known {
		return "unknown"
	}
	i := slices.IndexFunc(tunnels, func(t state.Tunnel) bool { return t.Name == e.Tunnel })
	switch {
	case i < 0:
		return "no tunnel"
	case !slices.Contains(tunnels[i].Addresses, e.Address):
		return "outdated"
	default:
		return "current"
	}
}

func (a *app) completeClientTunnel(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return a.completeClients()
	case 1:
		c, _ := clientfiles.Lookup(args[0])
		return a.complete(cmd, func(ctx context.Context, cl *client.Client) ([]string, error) {
			s, err := cl.Snapshot(ctx)
			var names []string
			for _, t := range s.Tunnels {
				if p, ok := db.Lookup(t.Protocol); ok && slices.Contains(c.Protocols, p.Name) {
					names = append(names, described(t.Name, t.Address))
				}
			}
			return names, err
		})
	}
	return nil, noCompletions
}

func (a *app) completeClientEntry(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return a.completeClients()
	case 1:
		file, _ := cmd.Flags().GetString("file")
		f, err := a.clientFile(args[0], file)
		if err != nil {
			return nil, noCompletions
		}
		entries, _ := f.Entries() // a broken file completes nothing
		var names []string
		for _, e := range entries {
			names = append(names, described(e.Tunnel, e.Address))
		}
		return names, noCompletions
	}
	return nil, noCompletions
}

func (a *app) completeClients() ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, c := range clientfiles.Clients {
		names = append(names, described(c.Name, c.Title))
	}
	return names, noCompletions
}
