//go:build e2e && lab && linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/internal/relay"
)

// TestWeatherLab keeps up a cluster behind a relay, with databases of three kinds
// and Kubernetes, and makes bad weather there for internal/chaos.
func TestWeatherLab(t *testing.T) {
	tp := lab.teleport
	startMariaDB(t, "my")
	startRedis(t, "re")
	for _, roles := range []string{requestRoles, fmt.Sprintf(roleTemplate, roleRedis, "'*': '*'", "default")} {
		if err := tp.apply(t.Context(), roles); err != nil {
			t.Fatal(err)
		}
	}
	front, err := tp.moveBehind(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	t.Cleanup(func() { front.Hold(false) })
	roles := []string{roleDB, roleKube, roleRedis, roleAsker}
	p := newPerson(t, roles...)
	p.login()
	act := tp.acts(p.name)
	deed := func(do func(context.Context) error) func(context.Context) (string, error) {
		return func(ctx context.Context) (string, error) { return "", do(ctx) }
	}
	now := func(do func()) func(context.Context) (string, error) {
		return deed(func(context.Context) error { do(); return nil })
	}
	acts := func(what string) func(context.Context) (string, error) {
		return deed(func(ctx context.Context) error { return act(ctx, what) })
	}
	// tsh logs nobody in who is.
	login := func(ctx context.Context, args ...string) error {
		if _, err := mustRun(ctx, p.env(p.tshHome), "", p.shell().tsh, "logout"); err != nil {
			return err
		}
		// While the cluster's services take over a new CA it fails.
		return until(ctx, time.Minute, time.Second, func() error { return p.tryLoginIn(ctx, p.tshHome, args...) })
	}
	loginAs := func(roles ...string) func(context.Context) (string, error) {
		return deed(func(ctx context.Context) error {
			if err := tp.setRoles(ctx, p.name, roles...); err != nil {
				return err
			}
			return login(ctx)
		})
	}
	obey(t, map[string]string{
		"home": p.tshHome, "proxy": tp.addr(), "ca_file": lab.webCA.file, "cluster": tp.cfg.cluster, "version": tp.version,
		"tsh": p.shell().tsh, "user": p.name, "password": p.password,
	}, map[string]func(context.Context) (string, error){
		"refuse": deed(func(context.Context) error { return front.Refuse(true) }),
		"accept": deed(func(context.Context) error { return front.Refuse(false) }),
		"hold":   now(func() { front.Hold(true) }),
		"flow":   now(func() { front.Hold(false) }),
		"slow":   now(func() { front.SetDelay(150 * time.Millisecond) }),
		"quick":  now(func() { front.SetDelay(0) }),
		"reset":  now(func() { front.Cut() }),
		"stop":   deed(func(context.Context) error { return tp.stop() }),
		"kill":   deed(func(context.Context) error { return tp.proc.stop(syscall.SIGKILL, time.Minute) }),
		"start":  deed(tp.start),
		"freeze": deed(func(context.Context) error { return tp.proc.signal(syscall.SIGSTOP) }),
		"thaw":   deed(func(context.Context) error { return tp.proc.signal(syscall.SIGCONT) }),
		"lock":   acts("lock"), "unlock": acts("unlock"), "rotate user": acts("rotate user"), "rotate host": acts("rotate host"),
		"login":      deed(func(ctx context.Context) error { return login(ctx) }),
		"login away": loginAs(roleNone), "login back": loginAs(roles...),
		// Teleport gives no session that is shorter.
		"login short": deed(func(ctx context.Context) error { return login(ctx, "--ttl=1") }),
		"grant": func(ctx context.Context) (string, error) {
			out, err := tp.tctl(ctx, "", "requests", "create", p.name, "--roles="+roleReporter, "--reason=weather")
			id := strings.TrimSpace(out)
			if err == nil {
				_, err = tp.tctl(ctx, "", "requests", "approve", id)
			}
			return id, err
		},
	})
}

// moveBehind has the cluster's proxy name a relay before it as its own address.
func (tp *teleport) moveBehind(ctx context.Context) (*relay.Relay, error) {
	to := tp.addr()
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	front, err := relay.Start(relay.Config{To: to, Listen: fmt.Sprintf("127.0.0.1:%d", port)})
	if err != nil {
		return nil, err
	}
	if err := tp.stop(); err != nil {
		return front, err
	}
	text, err := os.ReadFile(tp.config)
	if err != nil {
		return front, err
	}
	// Its services reach it as before.
	behind := strings.Replace(string(text), "public_addr: "+to, "public_addr: "+front.Addr()+"\n  tunnel_public_addr: "+to, 1)
	if err := os.WriteFile(tp.config, []byte(behind), 0o600); err != nil {
		return front, err
	}
	tp.port = port
	return front, tp.start(ctx)
}
