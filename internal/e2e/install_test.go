//go:build e2e && linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/agent/install"
	"berth/internal/testneeds"
)

// installVar makes the test binary install a session and kill itself before
// one of the changes: it holds what to do as JSON.
const installVar = "BERTH_E2E_INSTALL"

// proxyName is the name of the lab's profile.
const proxyName = "127.0.0.1"

// installOrder is what installVar holds.
type installOrder struct {
	Staging, Home, User string
	Steps               int // changes before the kill
}

// installAndDie is the child's work.
func installAndDie() {
	var order installOrder
	if err := json.Unmarshal([]byte(os.Getenv(installVar)), &order); err != nil {
		panic(err)
	}
	cfg := install.Config{Staging: order.Staging, Home: order.Home, ProxyHost: proxyName, User: order.User}
	cfg.Before = func(step string) error {
		if order.Steps == 0 {
			fmt.Println(step)
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		order.Steps--
		return nil
	}
	if err := install.Login(context.Background(), cfg); err != nil {
		panic(err)
	}
}

// installKilled runs the installation in a process that kills itself. It
// reports whether that came to its end first, and else the step it died at.
func installKilled(t *testing.T, order installOrder) (step string, done bool) {
	t.Helper()
	data, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(environment(), installVar+"="+string(data))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "", true
	case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL:
		return strings.TrimSpace(string(out)), false
	default:
		t.Fatalf("install: %v\n%s", err, out)
		return "", false
	}
}

// TestInstallKilledAtEveryStep renews a session, kills the installer before
// every single change it makes, and asks real tsh what it thinks of the home.
func TestInstallKilledAtEveryStep(t *testing.T) {
	p := newPerson(t, roleDB)
	p.login("--ttl=600")
	p.tsh("db", "login", "--db-user=app", "--db-name=appdb", "pg")
	staging, err := install.NewStaging(t.Context(), p.tshHome)
	if err != nil {
		t.Fatal(err)
	}
	p.loginIn(staging.Dir, "--ttl=300", "--add-keys-to-agent=no")
	staged := filepath.Join(p.dir, "staged")
	if err := os.CopyFS(staged, os.DirFS(staging.Dir)); err != nil {
		t.Fatal(err)
	}
	if err := staging.Close(); err != nil {
		t.Fatal(err)
	}
	ends := map[string]string{p.validUntil(t, p.tshHome): "old", p.validUntil(t, staged): "new"}
	if len(ends) != 2 {
		t.Fatalf("both sessions end at the same time: %v", ends)
	}

	t.Run("exchange", func(t *testing.T) { p.walkInstall(t, staged, ends, nil) })
	t.Run("one_by_one", func(t *testing.T) {
		testneeds.Root(t, "it mounts a folder, so that it cannot be exchanged")
		p.walkInstall(t, staged, ends, mountKeys)
	})
}

// walkInstall kills the installation before its first change, its second, and
// so on to the end. spoil makes a home one where folders cannot be exchanged;
// nil leaves it. There Recover must have run before tsh is asked.
func (p *person) walkInstall(t *testing.T, staged string, ends map[string]string, spoil func(t *testing.T, home string)) {
	found := map[string]int{}
	for n := 0; ; n++ {
		home := filepath.Join(t.TempDir(), "tsh")
		if err := os.CopyFS(home, os.DirFS(p.tshHome)); err != nil {
			t.Fatal(err)
		}
		if spoil != nil {
			spoil(t, home)
		}
		step, done := installKilled(t, installOrder{Staging: staged, Home: home, User: p.name, Steps: n})
		where := fmt.Sprintf("killed at step %d (%s)", n, step)
		if spoil == nil {
			p.mustAccept(t, home, ends, where)
		}
		if err := install.Recover(t.Context(), home, nil); err != nil {
			t.Fatalf("%s: Recover: %v", where, err)
		}
		end := p.mustAccept(t, home, ends, where+" and recovered")
		found[end]++
		if done {
			if end != "new" {
				t.Errorf("after the whole installation tsh has the %s session", end)
			}
			p.mustWork(t, home)
			break
		}
	}
	if found["old"] == 0 || found["new"] < 2 {
		t.Errorf("found %v, want both sessions", found)
	}
	t.Logf("found %v", found)
}

// mountKeys makes the keys folder a mount: it cannot be renamed or exchanged.
func mountKeys(t *testing.T, home string) {
	t.Helper()
	keys := filepath.Join(home, "keys", proxyName)
	if err := syscall.Mount(keys, keys, "", syscall.MS_BIND, ""); err != nil {
		testneeds.Here(t, "to mount a folder, so that it cannot be exchanged", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(keys, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// mustAccept checks that real tsh takes the home for a session it knows, and
// that the session works. It returns which one it is.
func (p *person) mustAccept(t *testing.T, home string, ends map[string]string, where string) string {
	t.Helper()
	which, ok := ends[p.validUntil(t, home)]
	if !ok {
		t.Fatalf("%s: tsh status shows a session of neither login", where)
	}
	out, err := mustRun(t.Context(), p.env(home), "", filepath.Join(lab.bin, "tsh"), "db", "ls")
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	if !strings.Contains(out, "pg") {
		t.Fatalf("%s: tsh db ls shows %q", where, out)
	}
	return which
}

// validUntil asks tsh when the session in a home ends.
func (p *person) validUntil(t *testing.T, home string) string {
	t.Helper()
	out, err := mustRun(t.Context(), p.env(home), "", filepath.Join(lab.bin, "tsh"), "status", "--format=json")
	if err != nil {
		t.Fatal(err)
	}
	var status struct {
		Active struct {
			Username   string    `json:"username"`
			ValidUntil time.Time `json:"valid_until"`
		} `json:"active"`
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		t.Fatalf("tsh status: %v\n%s", err, out)
	}
	if status.Active.Username != p.name {
		t.Fatalf("tsh status shows user %q, want %q", status.Active.Username, p.name)
	}
	return status.Active.ValidUntil.UTC().Format(time.RFC3339)
}

// mustWork has tsh change the home once more.
func (p *person) mustWork(t *testing.T, home string) {
	t.Helper()
	for _, args := range [][]string{
		{"db", "login", "--db-user=app", "--db-name=appdb", "pg"},
		{"logout", "--proxy=" + lab.teleport.addr(), "--user=" + p.name},
	} {
		if _, err := mustRun(t.Context(), p.env(home), "", filepath.Join(lab.bin, "tsh"), args...); err != nil {
			t.Error(err)
		}
	}
}
