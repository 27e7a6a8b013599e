package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simcluster/kubectltest"
	"berth/internal/simworld"
	"berth/internal/testneeds"
	"berth/internal/testwait"
	"berth/proxies/kube/kubeconfig"
)

// TestKubeExecWhileTheCertEnds has commands run in a pod when the session, and
// with it the cert, ends. They run to their end, unless the cluster says that
// nothing outlives its cert: then kubectl fails at once. Either way the next
// one is told to log in, and goes on after it.
func TestKubeExecWhileTheCertEnds(t *testing.T) {
	testneeds.Time(t, "it waits for the end of certs")
	for name, cut := range map[string]bool{"goes_on": false, "disconnect_expired_cert": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testKubeExecWhileTheCertEnds(t, cut)
		})
	}
}

func testKubeExecWhileTheCertEnds(t *testing.T, cut bool) {
	const ttl = 20 * time.Second
	e := newKubeEnv(t, simcluster.Config{DisconnectExpiredCert: cut})
	e.Login()
	e.kubeConfig(simworld.FreePort(t), e.kubeTunnel("prod", "prod", "hold: 0s"))
	e.start()
	e.AwaitState("prod", state.TunnelReady)
	ends := e.shortSession(ttl)
	k := kubectltest.New(t, e.kubeconfig())
	context := "--context=" + kubeconfig.ContextName("prod")
	seconds := strconv.Itoa(int(time.Until(ends).Seconds()) + 4)
	running := make(map[string]*kubectltest.Process)
	for way, k := range k.Transports() {
		running[way] = k.Start(t, context, "exec", "web-0", "--", "sh", "-c", "echo begun; sleep "+seconds+"; echo finished")
	}
	for _, p := range running {
		p.Await(t, "begun")
	}
	if time.Now().After(ends) {
		t.Fatal("the machine is too slow: the cert ended before the commands began")
	}
	for way, p := range running {
		if cut {
			testwait.Eventually(t, way+": the command is cut off", p.Ended)
			if late := time.Since(ends); late < 0 || strings.Contains(p.Output(), "finished") {
				t.Errorf("%s: it ended %s after the cert: %s", way, late, p.Output())
			}
			testwait.Soon(t, way+": the end of what the cert no longer allows", time.Since(ends), 3*time.Second)
			continue
		}
		p.Await(t, "finished")
	}
	e.AwaitState("prod", state.TunnelWaitingForLogin)
	if r := k.Run(t, context, "exec", "web-0", "--", "true"); r.Code == 0 || !strings.Contains(r.Err, "berth login") {
		t.Errorf("after the end: %+v", r)
	}
	e.Login()
	e.AwaitState("prod", state.TunnelReady)
	if out := k.Must(t, context, "exec", "web-0", "--", "echo", "again"); strings.TrimSpace(out) != "again" {
		t.Errorf("after a login: %q", out)
	}
}

// TestKubectlFromXargs runs forty kubectl at once, as scripts do: none fails,
// one cert serves them all, and no tsh is run.
func TestKubectlFromXargs(t *testing.T) {
	testneeds.Time(t, "it starts forty kubectl")
	t.Parallel()
	testneeds.Unix(t, "there is no xargs on Windows")
	e := newKubeEnv(t, simcluster.Config{})
	e.Login()
	e.kubeConfig(simworld.FreePort(t), e.kubeTunnel("prod", "prod"))
	ran := filepath.Join(e.Dir, "tsh-was-run")
	e.useTSH("#!/bin/sh\necho \"$@\" >>'" + ran + "'\nexit 1\n")
	e.start()
	e.AwaitState("prod", state.TunnelReady)
	k := kubectltest.New(t, e.kubeconfig())
	k.Must(t, "--context="+kubeconfig.ContextName("prod"), "get", "pods") // it keeps what the cluster has
	cmd := exec.CommandContext(t.Context(), "xargs", "-P", "40", "-n", "1", k.Path, "--context="+kubeconfig.ContextName("prod"), "get", "pods", "-o", "name")
	cmd.Env = k.Env()
	cmd.Stdin = strings.NewReader(strings.Repeat("web-0\n", 40))
	out, err := cmd.CombinedOutput()
	if n := strings.Count(string(out), "pod/web-0\n"); err != nil || n != 40 || len(out) != 40*len("pod/web-0\n") {
		t.Errorf("%v, %d of 40:\n%s", err, n, out)
	}
	if said, err := os.ReadFile(ran); err == nil {
		t.Errorf("tsh was run: %s", said)
	}
	if n := e.Sim.Counters().Mints["kube/prod"]; n != 1 {
		t.Errorf("%d certs for 41 runs", n)
	}
}

// useTSH has the agent run a script in the part of tsh.
func (e *env) useTSH(script string) {
	e.t.Helper()
	path := filepath.Join(e.t.TempDir(), "tsh")
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		e.t.Fatal(err)
	}
	raw, err := os.ReadFile(e.Paths.Config)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := os.WriteFile(e.Paths.Config, append(raw, "tsh: {path: "+strconv.Quote(path)+"}\n"...), 0o600); err != nil {
		e.t.Fatal(err)
	}
}
