//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"berth/proxies/kube/kubeconfig"
)

// programClient is a real program that is a client of a tunnel.
type programClient struct {
	name      string
	program   string // on PATH
	every     time.Duration
	keeps     bool // whether it goes on after an answer
	simulated bool // whether it needs the simulated cluster
	dial      func(w *world, t tunnel) func(context.Context) (session, error)
}

// programsFor returns the programs for a tunnel's protocol.
func programsFor(t tunnel) []programClient {
	once := func(ask func(ctx context.Context, w *world, t tunnel, token string) error) func(*world, tunnel) func(context.Context) (session, error) {
		return func(w *world, t tunnel) func(context.Context) (session, error) {
			return func(context.Context) (session, error) {
				return runs(func(ctx context.Context, token string) error { return ask(ctx, w, t, token) }), nil
			}
		}
	}
	switch t.protocol {
	case "postgres":
		return []programClient{
			{name: "psql", program: "psql", every: 5 * time.Second, dial: once(askPSQL)},
			{name: "pgbench -C", program: "pgbench", every: 8 * time.Second, dial: once(askPGBench("-C", "-t", "5"))},
			{name: "pgbench", program: "pgbench", every: 2 * time.Second, dial: once(askPGBench("-T", "15", "-R", "1"))},
		}
	case "mysql":
		return []programClient{{name: "mysql", program: "mysql", every: 5 * time.Second, dial: once(askMySQL)}}
	case "redis":
		return []programClient{{name: "redis-cli", program: "redis-cli", every: 5 * time.Second, dial: once(askRedisCLI)}}
	case "":
		return []programClient{
			{name: "kubectl get", program: "kubectl", every: 8 * time.Second, dial: once(askKubectl)},
			{name: "kubectl exec", program: "kubectl", every: 10 * time.Second, dial: once(askExec)},
			{name: "kubectl watch", program: "kubectl", every: 2 * time.Second, keeps: true, simulated: true, dial: watchKubectl},
		}
	}
	return nil
}

// runs is a session that is a run of a program for each question.
type runs func(ctx context.Context, token string) error

func (r runs) ask(ctx context.Context, token string) error { return r(ctx, token) }
func (runs) close()                                        {}

// command makes a command in the world's environment, which ends with ctx and
// with this process.
func (w *world) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = w.env()
	cmd.Dir = w.dir
	cmd.WaitDelay = time.Second
	return cmd
}

// output runs a program and returns what it prints.
func (w *world) output(ctx context.Context, program string, args ...string) (string, error) {
	cmd := w.command(ctx, program, args...)
	var said, complained bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &complained
	if err := cmd.Run(); err != nil {
		return said.String(), fmt.Errorf("%s: %w: %s", filepath.Base(program), err, strings.TrimSpace(complained.String()))
	}
	return said.String(), nil
}

func askPSQL(ctx context.Context, w *world, t tunnel, token string) error {
	got, err := w.output(ctx, "psql", "-XAtq", fmt.Sprintf("postgresql://%s@%s/%s?sslmode=disable", t.user, t.addr(), t.database),
		"-c", t.identityQuery(), "-c", fmt.Sprintf("select '%s'", token))
	if err != nil {
		return err
	}
	for _, line := range []string{"service|" + t.resource, "teleport_user|" + t.user, token} {
		if !strings.Contains("\n"+got, "\n"+line+"\n") {
			return wrong(got, line)
		}
	}
	return nil
}

// askPGBench returns a question that pgbench asks many times: it ends with an
// error when an answer is another one.
func askPGBench(args ...string) func(ctx context.Context, w *world, t tunnel, token string) error {
	return func(ctx context.Context, w *world, t tunnel, token string) error {
		number := 0
		for _, b := range []byte(token) {
			number = (number*31 + int(b)) % 1000003
		}
		script := fmt.Sprintf("select %d as x \\gset\n\\if :x <> %d\nselect wrong_answer\n\\endif\n", number, number)
		file := filepath.Join(w.dir, fmt.Sprintf("pgbench-%s-%s.sql", t.name, token))
		if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
			return err
		}
		defer os.Remove(file) //nolint:errcheck // the folder goes with the run
		_, err := w.output(ctx, "pgbench", append([]string{
			"-n", "-h", "127.0.0.1", "-p", strconv.Itoa(t.port), "-U", t.user, "-f", file, t.database,
		}, args...)...)
		if err != nil && strings.Contains(err.Error(), "wrong_answer") {
			return fmt.Errorf("%w: %w", errWrong, err)
		}
		return err
	}
}

func askMySQL(ctx context.Context, w *world, t tunnel, token string) error {
	got, err := w.output(ctx, "mysql", "--no-defaults", "--protocol=tcp", "--skip-ssl", "-h", "127.0.0.1", "-P", strconv.Itoa(t.port),
		"-u", t.user, "-N", "-B", "-e", t.identityQuery()+fmt.Sprintf("; select '%s', database()", token), t.database)
	if err != nil {
		return err
	}
	for _, line := range []string{"service\t" + t.resource, token + "\t" + t.database} {
		if !strings.Contains("\n"+got, "\n"+line+"\n") {
			return wrong(got, line)
		}
	}
	return nil
}

// askRedisCLI has redis-cli ask twice over one connection.
func askRedisCLI(ctx context.Context, w *world, t tunnel, token string) error {
	cmd := w.command(ctx, "redis-cli", "-h", "127.0.0.1", "-p", strconv.Itoa(t.port))
	who, name := t.redisWho()
	cmd.Stdin = strings.NewReader("ECHO " + token + "\n" + who[0] + " " + who[1] + "\n")
	out, err := cmd.CombinedOutput()
	got := strings.TrimSpace(string(out))
	switch {
	case err != nil:
		return fmt.Errorf("redis-cli: %w: %s", err, got)
	case strings.Contains(got, "ERR ") || strings.Contains(got, "Error:") || strings.Contains(got, "Could not connect"):
		return errors.New(got)
	}
	return equal(got, token+"\n"+name)
}

func (w *world) kubectl(t tunnel, args ...string) []string {
	return append([]string{"--kubeconfig=" + kubeconfig.Path(w.paths.StateDir), "--context=" + kubeconfig.ContextName(t.name)}, args...)
}

func askKubectl(ctx context.Context, w *world, t tunnel, token string) error {
	if t.real { // it has no such config map, and says so
		_, err := w.output(ctx, "kubectl", w.kubectl(t, "get", "configmap", token)...)
		if err != nil && strings.Contains(err.Error(), fmt.Sprintf("configmaps %q not found", token)) {
			return nil
		}
		return cmp.Or(err, wrong("no error", token))
	}
	got, err := w.output(ctx, "kubectl", w.kubectl(t, "get", "--raw", askPath+"?token="+token)...)
	if err != nil {
		return err
	}
	return equal(got, named(t.resource, token))
}

func askExec(ctx context.Context, w *world, t tunnel, token string) error {
	got, err := w.output(ctx, "kubectl", w.kubectl(t, "exec", "web-0", "--", "echo", token)...)
	switch {
	case err != nil:
		return err
	case got == "": // over SPDY, its second way, kubectl takes a cut for the command's end
		return errors.New("kubectl exec: cut off, and the exit code is 0")
	}
	return equal(strings.TrimSpace(got), token)
}
