package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) execCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "exec NAME -- COMMAND [ARG...]",
		Short: "Run a client with a tunnel's environment",
		Long: `Run a client with the environment variables it reads to find its server:
PGHOST, PGPORT, … for Postgres, MYSQL_HOST, … for MySQL, REDISCLI_… for Redis.
The exit code is the client's own.`,
		Example: `  berth exec prod-pg -- psql
  berth exec prod-pg -- pg_dump --schema-only`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) >= 2 {
				return nil
			}
			return usageError{withHint(errors.New("exec takes a tunnel and a command"), "usage: "+cmd.UseLine())}
		},
		ValidArgsFunction: a.completeTunnels,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.exec(cmd.Context(), args[0], args[1:])
		},
	}
}

func (a *app) exec(ctx context.Context, name string, argv []string) error {
	proto, ep, err := a.endpoint(ctx, name)
	if err != nil {
		return err
	}
	env, err := proto.Env(ep)
	if err != nil {
		return err
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return withHint(fmt.Errorf("run %s: %w", argv[0], errors.Unwrap(err)), "install it, or give its full path")
	}
	// Ctrl-C reaches the client by itself, through the terminal; it decides
	// what that means, so it is not killed with ctx.
	child := exec.CommandContext(context.WithoutCancel(ctx), path, argv[1:]...)
	child.Env = append(without(os.Environ(), proto.ClearEnv()), env...)
	child.Stdin, child.Stdout, child.Stderr = a.in, a.out, a.err
	if err := child.Run(); err != nil {
		return fmt.Errorf("run %s: %w", argv[0], err)
	}
	return nil
}

// without returns the environment without the named variables: a client would
// obey them rather than the tunnel's.
func without(env, names []string) []string {
	return slices.DeleteFunc(env, func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(names, name)
	})
}

func splitAddress(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("address of the tunnel: %w", err)
	}
	if port, err = strconv.Atoi(text); err != nil {
		return "", 0, fmt.Errorf("address of the tunnel: %w", err)
	}
	return host, port, nil
}
