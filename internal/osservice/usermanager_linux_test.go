package osservice

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"berth/internal/testneeds"
)

// testUID is the user of the tests; no account should have it.
const testUID = 58471

// TestUserManager runs the service under a real user manager of systemd, in
// namespaces and a control group of its own, as an ordinary user. The steps
// are those of TestInside.
func TestUserManager(t *testing.T) {
	skipWithoutManager(t)
	dir, err := os.MkdirTemp("", "berth-um-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	home := filepath.Join(dir, "home")
	for _, d := range []string{home, filepath.Join(home, "v1"), filepath.Join(home, "v2"), filepath.Join(home, "bin")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	passwd := fmt.Sprintf("root:x:0:0:root:/root:/bin/sh\ntester:x:%d:%d:tester:%s:/bin/sh\n", testUID, testUID, home)
	if err := os.WriteFile(filepath.Join(dir, "passwd"), []byte(passwd), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"v1", "v2"} {
		build(t, filepath.Join(home, v, "berth"), v)
	}
	chownAll(t, home)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs(filepath.Join("testdata", "usermanager.sh"))
	if err != nil {
		t.Fatal(err)
	}
	group := "berth-test-" + strconv.Itoa(os.Getpid())
	cmd := exec.Command("unshare", "--mount", "sh", script, dir, group, self, "-test.run=^TestInside$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), insideVar+"="+home)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("inside: %v", err)
	}
	if !strings.Contains(string(out), "--- PASS: TestInside ") {
		t.Error("the tests inside did not run")
	}
	removeGroup(t, dir, group)
}

// skipWithoutManager says loudly what is missing for a user manager.
func skipWithoutManager(t *testing.T) {
	t.Helper()
	testneeds.Time(t, "it builds berth twice and runs a user manager")
	testneeds.Root(t, "a user manager gets namespaces and a control group of its own")
	for _, tool := range []string{"unshare", "setpriv", "ip", "systemctl", "systemd-analyze", "/lib/systemd/systemd"} {
		_, err := exec.LookPath(tool)
		testneeds.Here(t, tool, err) // a container often has no systemd
	}
	if out, err := exec.Command("unshare", "--mount", "--cgroup", "--net", "--pid", "--fork", "true").CombinedOutput(); err != nil {
		testneeds.Here(t, "namespaces", fmt.Errorf("%w: %s", err, out))
	}
}

func build(t *testing.T, file, version string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-ldflags", "-s -w -X main.version="+version, "-o", file, "berth/cmd/berth")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build berth: %v\n%s", err, out)
	}
}

func chownAll(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, testUID, testUID))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// removeGroup removes the control group, in which nothing runs any more.
func removeGroup(t *testing.T, dir, group string) {
	t.Helper()
	const script = `mount -t cgroup2 none "$1/cgroup" && find "$1/cgroup/$2" -depth -type d -exec rmdir {} +`
	if out, err := exec.Command("unshare", "--mount", "sh", "-c", script, "sh", dir, group).CombinedOutput(); err != nil {
		t.Errorf("remove the control group: %v: %s", err, out)
	}
}
