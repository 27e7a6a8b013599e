package agent

import (
	"bytes"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"berth/agent/state"
	"berth/internal/dbustest"
	"berth/internal/paths"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// childEnvironment is what an agent without a BERTH_HOME sees, with a bus of its
// own; the paths of e are that agent's from now on.
func (e *env) childEnvironment(bus *dbustest.Bus) []string {
	e.t.Helper()
	vars := map[string]string{
		"HOME": e.Dir, "XDG_CONFIG_HOME": e.Dir + "/config", "XDG_STATE_HOME": e.Dir + "/state", "XDG_RUNTIME_DIR": e.Dir + "/run",
		"DBUS_SESSION_BUS_ADDRESS": bus.Address,
	}
	if err := os.MkdirAll(vars["XDG_RUNTIME_DIR"], 0o700); err != nil {
		e.t.Fatal(err)
	}
	var err error
	if e.Paths, err = paths.Resolve(func(name string) string { return vars[name] }); err != nil {
		e.t.Fatal(err)
	}
	if err := e.Paths.MakeDirs(); err != nil {
		e.t.Fatal(err)
	}
	environ := append(os.Environ(), childEnv+"=1", paths.HomeVar+"=") // none
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		environ = append(environ, name+"="+vars[name])
	}
	return environ
}

// startChild starts an agent in a process of its own.
func (e *env) startChild(environ []string) (stop func()) {
	e.t.Helper()
	child := exec.CommandContext(e.t.Context(), os.Args[0])
	child.Env, child.Stderr = environ, io.Discard
	if err := child.Start(); err != nil {
		e.t.Fatal(err)
	}
	stop = func() {
		_ = child.Process.Kill()
		_ = child.Wait() // it was killed
	}
	e.t.Cleanup(stop)
	e.Await("the child agent", func(s state.Snapshot) bool { return s.Agent.PID == child.Process.Pid })
	return stop
}

// TestKeyringHasTheLocalCA runs agents beside the real keyring of a desktop,
// which is locked later.
func TestKeyringHasTheLocalCA(t *testing.T) {
	t.Parallel()
	bus := dbustest.Start(t)
	bus.StartKeyring(t)
	e := newKubeEnv(t, simcluster.Config{})
	environ := e.childEnvironment(bus)
	e.Login()
	e.kubeConfig(simworld.FreePort(t), e.kubeTunnel("prod", "prod"))
	stop := e.startChild(environ)
	before := e.awaitKubeconfig()
	e.AwaitState("prod", state.TunnelReady)
	get, _ := e.kube("prod")
	if code, body := get(podsPath); code != http.StatusOK {
		t.Errorf("it says %d %s", code, body)
	}
	// The CA, the client and its key, the listeners' cert and its key.
	file := e.mustRead(e.caPath())
	if certs, keys := bytes.Count(file, []byte("BEGIN CERT")), bytes.Count(file, []byte("BEGIN PRIV")); certs != 3 || keys != 2 {
		t.Errorf("the file has %d certs and %d keys: the CA's own is in it", certs, keys)
	}
	stop()
	if err := dbustest.LockKeyring(bus.Address); err != nil {
		t.Fatal(err)
	}
	e.startChild(environ)
	e.AwaitState("prod", state.TunnelReady)
	if code, body := get(podsPath); code != http.StatusOK || !bytes.Equal(e.mustRead(e.kubeconfig()), before) {
		t.Errorf("after a restart beside a locked keyring it says %d %s", code, body)
	}
}

// silentSecrets is a keyring that never answers.
type silentSecrets struct{ end chan struct{} }

// Get is a property's.
func (s silentSecrets) Get(string, string) (dbus.Variant, *dbus.Error) {
	<-s.end
	return dbus.Variant{}, dbus.MakeFailedError(io.EOF)
}

// TestKeyringThatNeverAnswers starts an agent beside one.
func TestKeyringThatNeverAnswers(t *testing.T) {
	testneeds.Time(t, "a keychain that does not answer is waited for")
	t.Parallel()
	bus := dbustest.Start(t)
	s := silentSecrets{make(chan struct{})}
	t.Cleanup(func() { close(s.end) })
	conn := bus.Connect(t, "org.freedesktop.secrets")
	if err := conn.Export(s, "/org/freedesktop/secrets", "org.freedesktop.DBus.Properties"); err != nil {
		t.Fatal(err)
	}
	e := newKubeEnv(t, simcluster.Config{})
	environ := e.childEnvironment(bus)
	e.Login()
	item, port := e.pgTunnel("pg")
	kubePort := simworld.FreePort(t)
	e.kubeConfig(kubePort, item, e.kubeTunnel("prod", "prod"))
	began := time.Now()
	e.startChild(environ) // returns when it answers
	took := time.Since(began)
	if _, err := os.Stat(e.kubeconfig()); err == nil && took < 3*time.Second {
		t.Error("the keyring was not asked")
	} else if err == nil {
		testwait.Soon(t, "the start beside a keyring that does not answer", took, 3*time.Second)
	}
	if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(kubePort))); err != nil {
		t.Errorf("the port of kube tunnels is not bound: %v", err)
	} else {
		conn.Close()
	}
	e.AwaitState("pg", state.TunnelReady)
	e.mustPG(port)
	e.awaitKubeconfig() // once the keyring has had its time
	if n := bytes.Count(e.mustRead(e.caPath()), []byte("BEGIN PRIV")); n != 2 {
		t.Errorf("the file has %d keys", n)
	}
	get, _ := e.kube("prod")
	if code, body := get(podsPath); code != http.StatusOK {
		t.Errorf("it says %d %s", code, body)
	}
}
