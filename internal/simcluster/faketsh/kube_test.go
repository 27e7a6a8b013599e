package faketsh

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/simcluster"
	"berth/internal/simcluster/kubectltest"
	"berth/internal/simworld"
	"berth/internal/testwait"
)

// kubeWorld has two Kubernetes clusters and someone logged in.
func kubeWorld(t *testing.T, version string, opts ...simcluster.LoginOption) *world {
	t.Helper()
	w := newWorld(t, simcluster.Config{Version: version, Kubes: []simcluster.Kube{
		{Name: "prod", Labels: map[string]string{"env": "test"}}, {Name: "dev"},
	}})
	if err := w.Login(w.home, "alice", append(opts, simcluster.WithKey(simcluster.ECDSA))...); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestKubeList(t *testing.T) {
	w := kubeWorld(t, "")
	w.tsh(t, "kube", "ls").want(t, 0, "prod", "")
	r := w.tsh(t, "kube", "ls", "--format=json")
	var list []struct {
		Name   string            `json:"kube_cluster_name"`
		Labels map[string]string `json:"labels"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil {
		t.Fatalf("%v\n%s", err, r.stdout)
	}
	if len(list) != 2 || list[0].Name != "dev" || list[1].Labels["env"] != "test" {
		t.Errorf("listed %+v", list)
	}
	if err := os.RemoveAll(w.home); err != nil {
		t.Fatal(err)
	}
	w.tsh(t, "kube", "ls").want(t, 1, "", errNoProxy.Error())
}

func TestKubeCredentials(t *testing.T) {
	for _, version := range []string{simcluster.V16, simcluster.V17} {
		t.Run(version, func(t *testing.T) {
			w := kubeWorld(t, version)
			args := []string{"kube", "credentials", "--kube-cluster=prod", "--teleport-cluster=" + w.Name(), "--proxy=" + w.ProxyAddr()}
			r := w.tsh(t, args...)
			r.want(t, 0, `"kind":"ExecCredential"`, "")
			var cred struct {
				APIVersion string
				Status     struct {
					ExpirationTimestamp                  time.Time
					ClientCertificateData, ClientKeyData string
				}
			}
			if err := json.Unmarshal([]byte(r.stdout), &cred); err != nil {
				t.Fatalf("%v\n%s", err, r.stdout)
			}
			pair, err := newKubePair([]byte(cred.Status.ClientCertificateData), []byte(cred.Status.ClientKeyData))
			if err != nil {
				t.Fatal(err)
			}
			if d := pair.notAfter.Sub(cred.Status.ExpirationTimestamp); d != kubeSlack {
				t.Errorf("said to end %s before it does", d)
			}
			if again := w.tsh(t, args...); again.stdout != r.stdout {
				t.Error("the second call did not give the same cert")
			}
			if n := w.Counters().Mints["kube/prod"]; n != 1 {
				t.Errorf("%d certs minted for two calls", n)
			}
			w.tsh(t, "kube", "credentials", "--kube-cluster=x", "--teleport-cluster="+w.Name()).
				want(t, 1, "", `Kubernetes cluster "x" is not registered`)
		})
	}
}

func TestKubeCredentialsLeaveALockBehind(t *testing.T) {
	t.Parallel()
	w := kubeWorld(t, "", simcluster.WithTTL(time.Second))
	args := []string{"kube", "credentials", "--kube-cluster=prod", "--teleport-cluster=" + w.Name()}
	testwait.Eventually(t, "end of the session", func() bool { return w.tsh(t, "status").code != 0 })
	w.tsh(t, args...).want(t, 1, "", "terminal")
	w.tsh(t, args...).want(t, 1, "", "Having problems with relogin")
	if _, err := os.Stat(filepath.Join(w.home, "keys", w.ProxyHost(), "kube_credentials.lock")); err != nil {
		t.Error(err)
	}
}

// runKubeProxy starts "tsh proxy kube" and returns the kubeconfig's path once
// it is there.
func runKubeProxy(t *testing.T, w *world, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	ctx, cancel := context.WithCancel(t.Context())
	var out simworld.Log
	done := make(chan int, 1)
	go func() {
		env := append(append([]string(nil), w.env...), "TELEPORT_KUBECONFIG="+path)
		done <- Run(ctx, append([]string{"proxy", "kube"}, args...), env, strings.NewReader(""), &out, &out)
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("exit code %d\n%s", code, out.String())
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("the kubeconfig is still there")
		}
	})
	testwait.Eventually(t, "kubeconfig", func() bool { info, err := os.Stat(path); return err == nil && info.Size() > 0 })
	for _, want := range []string{"Started local proxy for Kubernetes on 127.0.0.1:", "KUBECONFIG=" + path} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	return path
}

func TestProxyKube(t *testing.T) {
	t.Parallel()
	w := kubeWorld(t, "")
	path := runKubeProxy(t, w, "prod")
	k := kubectltest.New(t, path)
	if got := k.Must(t, "get", "pods", "-o", "name"); !strings.Contains(got, "pod/web-0") {
		t.Errorf("pods:\n%s", got)
	}
	if got := k.Must(t, "config", "current-context"); got != w.Name()+"-prod\n" {
		t.Errorf("context %q", got)
	}
	for name, k := range k.Transports() {
		t.Run(name, func(t *testing.T) {
			if got := k.MustIn(t, []byte("in and out"), "exec", "-i", "web-0", "--", "cat"); got != "in and out" {
				t.Errorf("exec: %q", got)
			}
		})
	}
	k.Start(t, "logs", "-f", "talker-0").Await(t, "still here, 1")
}

func TestProxyKubeWithoutASession(t *testing.T) {
	t.Parallel()
	_, _ = kubectltest.Path() // looked for before the session begins, which is short
	w := kubeWorld(t, "", simcluster.WithTTL(15*time.Second))
	k := kubectltest.New(t, runKubeProxy(t, w, "prod"))
	k.Must(t, "get", "--raw", "/api")
	testwait.Eventually(t, "end of the session", func() bool { return w.tsh(t, "status").code != 0 })
	if r := k.Run(t, "get", "--raw", "/api"); r.Code == 0 || !strings.Contains(r.Err, "InternalError") {
		t.Errorf("after the session's end: %+v", r)
	}
	if err := w.Login(w.home, "alice", simcluster.WithKey(simcluster.ECDSA)); err != nil {
		t.Fatal(err)
	}
	k.Must(t, "get", "--raw", "/api")
}

func TestProxyKubeOfNoCluster(t *testing.T) {
	w := kubeWorld(t, "")
	w.tsh(t, "proxy", "kube", "nix").want(t, 1, "", `"nix" not found`)
}
